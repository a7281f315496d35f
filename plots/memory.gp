# Where the bits are: resident bits per element by class, smallest first; what a decode step reads.
# base.dat: 0 bars: left right row colour | 1 row labels: row text | 2 totals: x row text | 3 reads: x row
load 'style.gp'
do for [kind in kinds] {
    eval open(kind)
    set output base.'.'.kind
    eval area
    eval words_on
    set border 1
    set key at screen 4.0 / width, screen 1 - 48.0 / height left top Left reverse horizontal \
        maxrows 1 samplen 1 tc rgb '#444444'
    set xrange [0:x_max]
    set yrange [rows - 0.4:-0.6]
    set ytics noenhanced scale 0
    set xtics 0, x_step
    set grid xtics lc rgb '#e4e4e4' lt 1 lw 0.7
    set xlabel 'bits per element of K and V'
    set style fill solid 1 noborder
    unset arrow
    set arrow from recorded_bits, graph 0 to recorded_bits, graph 1 nohead back lc rgb '#888888' dt 2
    plot base.'.dat' index 1 using (0):1:ytic(2) with dots lc rgb 'white' notitle, \
        '' index 0 using (0):3:1:2:($3 - 0.36):($3 + 0.36):4 with boxxyerror \
            lc rgb variable notitle, \
        '' index 2 using 1:2:3 with labels left offset 1.1, 0 font ',9' tc rgb '#333333' notitle, \
        '' index 3 using 1:2 with points pt 13 ps 1.1 lc rgb '#ffffff' notitle, \
        '' index 3 using 1:2 with points pt 12 ps 1.1 lw 1.2 lc rgb '#000000' notitle, \
        NaN with boxes lc rgb '#0072b2' title 'codes', \
        NaN with boxes lc rgb '#e69f00' title 'metadata', \
        NaN with boxes lc rgb '#009e73' title 'rows kept exact', \
        NaN with boxes lc rgb '#cc79a7' title 'basis', \
        NaN with boxes lc rgb '#dcdcdc' title has_host ? 'on the host, in no total' : '', \
        NaN with points pt 12 ps 1.1 lw 1.2 lc rgb '#000000' title 'read by a decode step', \
        NaN with lines lc rgb '#888888' dt 2 title 'as recorded'
}
set output
reset
