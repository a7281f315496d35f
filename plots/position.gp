# Output error against the position of the query: one line a method, named at its end.
# base.dat: 0 lines: position error colour, a blank line between methods | 1 labels: x y text colour
#           2 lines from ends to labels: x y x2 y2 | 3 lines that have no label
load 'style.gp'
do for [kind in kinds] {
    eval open(kind)
    set output base.'.'.kind
    eval area
    eval words_on
    unset key
    set logscale y 10
    set xrange [x_min:x_max]
    set yrange [y_min:y_max]
    eval 'set ytics ('.y_tics.')'
    eval 'set xtics ('.x_tics.')'
    set grid ytics lc rgb '#ececec' lt 1 lw 0.7
    set xlabel 'position of the query (token), scored tokens in 16 equal shares'
    set ylabel 'output error, mean over layers (log scale)'
    plot base.'.dat' index 3 using 1:2 with lines lc rgb '#cccccc' lw 1 notitle, \
        '' index 0 using 1:2:3 with lines lc rgb variable lw 1.8 notitle, \
        '' index 0 using 1:2:3 with points pt 7 ps 0.4 lc rgb variable notitle, \
        '' index 2 using 1:2:($3 - $1):($4 - $2) with vectors nohead lc rgb '#bbbbbb' lw 0.7 notitle, \
        '' index 1 using 1:2:3:4 with labels left noenhanced font ',10' tc rgb variable notitle
}
set output
reset
