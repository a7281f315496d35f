"""One KV head's cache: banks of rows in their tiers, and the byte rule of interface.md section 5."""
import numpy as np

from rotary import before_rotation, rotated
from rounding import through_f16, to_f32


def by_place(bank):
    """Bytes by class: codes, their metadata and exact rows of a stage on the host are in none but `offloaded`."""
    counts = {**bank.bytes(), "offloaded": 0}
    if bank.codec.host:
        for name in ("payload", "metadata", "residual"):
            counts["offloaded"] += counts[name]
            counts[name] = 0
    return counts


class Bank:
    """One side of one head. `read` is what an answer reads at each position."""

    def __init__(self, codec, recorded, exact_row_bytes, prompt_length=0, stored=through_f16):
        self.stored = stored                  # a row in the number format of the trace
        self.codec, self.source, self.exact_row_bytes = codec, recorded, exact_row_bytes
        self.recorded = np.array(recorded, dtype=np.float64)      # what enters the codec
        self.read = np.array(recorded, dtype=np.float64)
        self.queue = []                       # positions of exact rows that wait, ascending
        self.sinks = set()                    # positions below tiers.sinks: exact for good
        self.atom_of = {}                     # position -> number of its atom
        self.coded = np.zeros(len(recorded), dtype=bool)          # positions that have an atom
        self.live_rows = {}                   # atom -> rows of it that are still held
        self.prompt_length = prompt_length
        self.later = codec.later and Bank(codec.later, recorded, exact_row_bytes)
        if self.later:
            self.later.read = self.read       # one table of what is read, two ways to store

    def part(self, position):
        """The bank that holds a position."""
        mine = position in self.atom_of or position in self.sinks or position in self.queue
        return self if self.later is None or mine else self.later

    def end_prompt(self):
        if self.later:
            self.later.queue, self.queue = self.queue, []

    def append(self, position):
        if self.later and position >= self.prompt_length:
            return self.later.append(position)
        if position < self.codec.tiers.sinks:
            self.sinks.add(position)
        else:
            self.queue.append(position)

    def edit(self, position, row):
        """A changed row is a new exact one at its old position, in the precision of a stored row."""
        self.drop(position)
        self.recorded[position] = self.read[position] = self.stored(row)
        self.append(position)
        self.queue.sort()

    def take(self, position, row):
        """A row that another cache hands down, in the precision of a stored one."""
        for part in filter(None, (self, self.later)):
            part.recorded[position], part.read[position] = self.handed(position, row)
        self.append(position)
        for part in filter(None, (self, self.later)):
            part.queue.sort()

    def handed(self, position, row):
        """(what enters the codec, what is read)"""
        return self.stored(row), self.stored(row)

    def drop(self, position):
        """An atom goes when the last of its rows does; an exact row goes at once."""
        if self.part(position) is not self:
            return self.later.drop(position)
        if position in self.atom_of:
            atom = self.atom_of.pop(position)
            self.coded[position] = False
            self.live_rows[atom] -= 1
            if self.live_rows[atom] == 0:
                del self.live_rows[atom]
        elif position in self.sinks:
            self.sinks.remove(position)
        else:
            self.queue.remove(position)

    def flush(self):
        """While the queue holds recent + flush rows, the `flush` oldest are encoded."""
        tiers = self.codec.tiers
        rounds = max(0, len(self.queue) - tiers.recent) // tiers.flush
        positions = self.queue[:rounds * tiers.flush]
        if positions:
            del self.queue[:len(positions)]
            self.encode(positions)
            self.number_atoms(positions)

    def flush_due(self, at_once):
        for part in (self, self.later):
            if part and part.codec.tiers.at_once == at_once:
                part.flush()

    def encode(self, positions):
        by_position = self.codec.round_trip_at(positions)
        self.read[positions] = by_position if by_position is not None else self.codec.round_trip(
            self.recorded[positions])

    def number_atoms(self, positions):
        """The first row's position names the atom: no two atoms share it."""
        self.coded[positions] = True
        for i, position in enumerate(positions):
            atom = positions[i - i % self.codec.block]
            self.atom_of[position] = atom
            self.live_rows[atom] = self.live_rows.get(atom, 0) + 1

    def coded_mask(self):
        """Rows that compression changed: a copy in a number format is not compressed."""
        mask = np.zeros(len(self.recorded), dtype=bool) if self.codec.is_number_format else self.coded
        return mask | self.later.coded_mask() if self.later else mask

    def bytes(self):
        if self.codec.bytes_of:
            payload, metadata = self.codec.bytes_of(list(self.atom_of))
        else:
            payload, metadata = (n * len(self.live_rows) for n in self.codec.atom_bytes())
        exact = len(self.queue) + len(self.sinks)
        counts = dict(payload=payload, metadata=metadata, residual=exact * self.exact_row_bytes,
                      basis=self.codec.basis_bytes)
        if self.later:
            for name, count in self.later.bytes().items():
                counts[name] += count
        return counts


    def touched(self, positions):
        """Bytes of the atoms and exact rows in which these lie."""
        coded = [p for p in positions if p in self.atom_of]
        waits = set(self.queue) | self.sinks
        if self.codec.bytes_of:
            codes = sum(self.codec.bytes_of(coded))
        else:
            codes = sum(self.codec.atom_bytes()) * len({self.atom_of[p] for p in coded})
        own = codes + self.exact_row_bytes * sum(p in waits for p in positions)
        return own + (self.later.touched(positions) if self.later else 0)


class UnrotatedBank(Bank):
    """keys=unrotated: keys are turned back before they enter the codec, and on again when they are read."""

    def __init__(self, codec, recorded, exact_row_bytes, prompt_length, stored, layer, positions):
        before = to_f32(before_rotation(layer, np.asarray(recorded, dtype=np.float64), positions))
        super().__init__(codec, before, exact_row_bytes, prompt_length, stored)
        self.layer, self.positions = layer, positions
        self.read[:] = self.source = recorded
        if self.later:
            self.later = UnrotatedBank(codec.later, recorded, exact_row_bytes, prompt_length, stored, layer, positions)
            self.later.read = self.read

    def encode(self, positions):
        super().encode(positions)
        self.read[positions] = rotated(self.layer, self.read[positions], self.positions[positions])

    def handed(self, position, row):
        at = self.positions[[position]]
        before = self.stored(to_f32(before_rotation(self.layer, row[None], at)))
        return before[0], rotated(self.layer, before, at)[0]

    def edit(self, position, row):
        raise NotImplementedError("a changed key before the rotation")


class HeadCache:
    """Keys and values of one KV head, and which positions are held."""

    def __init__(self, key_bank, value_bank, tokens, value_is_key_prefix=0):
        self.keys, self.values = key_bank, value_bank
        self.value_prefix = value_is_key_prefix     # > 0: values are the keys' first columns
        self.held = np.zeros(tokens, dtype=bool)

    @property
    def banks(self):
        return [self.keys] if self.value_prefix else [self.keys, self.values]

    @property
    def own(self):
        """Rows that the policy chooses among."""
        return self.held

    def coded_mask(self):
        return self.banks[0].coded_mask()

    def append(self, position):
        self.held[position] = True
        for bank in self.banks:
            bank.append(position)

    def drop(self, positions):
        for position in positions:
            self.held[position] = False
            for bank in self.banks:
                bank.drop(int(position))

    def flush(self, at_once):
        for bank in self.banks:
            bank.flush_due(at_once)

    def read_keys(self):
        return self.keys.read

    def read_values(self):
        return self.keys.read[:, :self.value_prefix] if self.value_prefix else self.values.read
