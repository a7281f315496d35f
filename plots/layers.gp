# Output error by layer: a heat map, methods in the table's order, one shared log colour scale.
# base.dat: 0 cells: column row error printed shade | 1 row labels: row text | 2 column labels: column text
load 'style.gp'
# Viridis, eight anchors: even to the eye and safe for colour-blind readers.
set palette defined (0 '#440154', 1 '#46327e', 2 '#365c8d', 3 '#277f8e', 4 '#1fa187', \
    5 '#4ac16d', 6 '#a0da39', 7 '#fde725')
do for [kind in kinds] {
    eval open(kind)
    set output base.'.'.kind
    eval area
    eval words_on
    unset key
    unset border
    set xrange [-0.5:columns - 0.5]
    set yrange [rows - 0.5:-0.5]
    set ytics noenhanced scale 0
    set xtics noenhanced scale 0
    set logscale cb
    set cbrange [c_min:c_max]
    eval 'set cbtics ('.c_tics.')'
    set colorbox user origin area_right + 14.0 / width, area_bottom \
        size 14.0 / width, area_top - area_bottom
    set xlabel 'layer of the model'
    set style fill solid 1 noborder
    half = columns > 24 ? 0.5 : 0.49   # narrow cells touch: a gap of less than a pixel comes and goes
    plot base.'.dat' index 1 using (0):1:ytic(2) with dots lc rgb 'white' notitle, \
        '' index 2 using 1:(0):xtic(2) with dots lc rgb 'white' notitle, \
        '' index 0 using 1:2:($1 - half):($1 + half):($2 - 0.47):($2 + 0.47):3 \
            with boxxyerror fc palette notitle, \
        '' index 0 using 1:2:4:5 with labels noenhanced font ',8' tc rgb variable notitle
}
set output
reset
