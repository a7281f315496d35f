"""One KV head's cache: banks of rows in their tiers, and the byte rule of interface.md section 5."""
import numpy as np


class Bank:
    """One side of one head. `read` is what an answer reads at each position."""

    def __init__(self, codec, recorded, exact_row_bytes):
        self.codec, self.recorded, self.exact_row_bytes = codec, recorded, exact_row_bytes
        self.read = np.array(recorded, dtype=np.float64)
        self.queue = []                       # positions of exact rows that wait, ascending
        self.sinks = set()                    # positions below tiers.sinks: exact for good
        self.atom_of = {}                     # position -> number of its atom
        self.live_rows = {}                   # atom -> rows of it that are still held

    def append(self, position):
        if position < self.codec.tiers.sinks:
            self.sinks.add(position)
        else:
            self.queue.append(position)

    def drop(self, position):
        """An atom goes when the last of its rows does; an exact row goes at once."""
        if position in self.atom_of:
            atom = self.atom_of.pop(position)
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
            self.read[positions] = self.codec.round_trip(self.recorded[positions])
            self.number_atoms(positions)

    def number_atoms(self, positions):
        """The first row's position names the atom: no two atoms share it."""
        for i, position in enumerate(positions):
            atom = positions[i - i % self.codec.block]
            self.atom_of[position] = atom
            self.live_rows[atom] = self.live_rows.get(atom, 0) + 1

    def coded_mask(self):
        """Rows that compression changed: a copy in a number format is not compressed."""
        mask = np.zeros(len(self.recorded), dtype=bool)
        if not self.codec.is_number_format:
            mask[list(self.atom_of)] = True
        return mask

    def bytes(self):
        payload, metadata = self.codec.atom_bytes()
        exact = len(self.queue) + len(self.sinks)
        return dict(payload=payload * len(self.live_rows), metadata=metadata * len(self.live_rows),
                    residual=exact * self.exact_row_bytes, basis=self.codec.basis_bytes)


class HeadCache:
    """Keys and values of one KV head, and which positions are held."""

    def __init__(self, key_bank, value_bank, tokens, value_is_key_prefix=0):
        self.keys, self.values = key_bank, value_bank
        self.value_prefix = value_is_key_prefix     # > 0: values are the keys' first columns
        self.held = np.zeros(tokens, dtype=bool)

    @property
    def banks(self):
        return [self.keys] if self.value_prefix else [self.keys, self.values]

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
            if bank.codec.tiers.at_once == at_once:
                bank.flush()

    def read_keys(self):
        return self.keys.read

    def read_values(self):
        return self.keys.read[:, :self.value_prefix] if self.value_prefix else self.values.read
