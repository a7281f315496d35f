# Quality against memory: one point a method, the Pareto front as a step line.
# base.dat: 0 points: bits error low high shape colour | 1 front: bits error | 2 labels: x y text
#           3 lines to far labels: x y dx dy | 4 key: x y shape colour text
load 'style.gp'
do for [kind in kinds] {
    eval open(kind)
    set output base.'.'.kind
    set multiplot
    eval area
    eval words_on
    set key at screen 4.0 / width, screen 1 - 48.0 / height left top Left reverse horizontal \
        maxrows 1 samplen 1 tc rgb '#444444'
    set label 5 note at screen 0.012, screen 9.0 / height left noenhanced font ',8' tc rgb '#888888'
    set logscale x 2
    set logscale y 10
    set xrange [x_min:x_max]
    set yrange [y_min:y_max]
    eval 'set xtics ('.x_tics.')'
    eval 'set ytics ('.y_tics.')'
    set grid ytics lc rgb '#ececec' lt 1 lw 0.7
    set xlabel 'bits per element of K and V, everything resident (log scale)'
    set ylabel y_label
    unset arrow
    do for [b in guides] {
        set arrow from b, graph 0 to b, graph 1 nohead back lc rgb '#d0d0d0' dt 3
    }
    if (floor_value > 0) {
        set arrow from graph 0, first floor_value to graph 1, first floor_value nohead back \
            lc rgb '#999999' dt 2
        set label 4 'f16 copy: the noise floor' at graph 0.995, first floor_value right offset 0, 0.5 \
            tc rgb '#777777' font ',9'
    }
    plot base.'.dat' index 1 using 1:2 with steps lc rgb '#bbbbbb' lw 2.5 title 'Pareto front', \
        '' index 0 using 1:2:3:4:6 with yerrorbars ps 0 lw 1 lc rgb variable notitle, \
        '' index 3 using 1:2:3:4 with vectors nohead lc rgb '#aaaaaa' lw 0.7 notitle, \
        '' index 0 using 1:2:5:6 with points pt variable ps 1.25 lw 1.5 lc rgb variable notitle, \
        for [f = 1:words(families)] NaN with points pt int(word(shapes.' 0', f)) ps 1.1 \
            lc rgb '#666666' title word(families, f), \
        '' index 2 using 1:2:3:4 with labels left noenhanced font ',10' tc rgb variable notitle
    if (has_key) {
        # The numbers' meaning, in a column of its own.
        unset label
        unset arrow
        unset logscale
        unset tics
        unset border
        unset xlabel
        unset ylabel
        unset grid
        set lmargin at screen area_right + 6.0 / width
        set rmargin at screen 1
        set bmargin at screen 20.0 / height
        set tmargin at screen 1 - 50.0 / height
        set xrange [0:1]
        set yrange [0:1]
        plot base.'.dat' index 4 using 1:2:3:4 with points pt variable ps 0.9 lc rgb variable notitle, \
            '' index 4 using ($1 + 0.04):2:5 with labels left noenhanced font ',9' \
            tc rgb '#333333' notitle
        set tics nomirror
        set border 3 lc rgb '#444444'
    }
    unset multiplot
}
set output
reset
