# Bytes of a sequence's cache against its length, and the weights as level lines.
# memory.dat: blocks of context bytes, each headed by its curve's name; curves is their number.
width = 960; height = 560
load 'style.gp'
do for [kind in kinds] {
    eval open(kind)
    set output 'memory_context.'.kind
    unset label
    set label 1 'memory of one sequence' at screen 0.012, screen 1 - 16.0 / height left noenhanced font ',14'
    set lmargin 10
    set rmargin 42
    set tmargin 3
    set key at graph 1.02, graph 1 left top Left reverse noenhanced samplen 2 spacing 1.1 font ',9'
    set logscale xy 2
    set format x '%.0b%B'
    set format y '%.0b %BB'
    set grid xtics ytics lc rgb '#e4e4e4' lt 1 lw 0.7
    set xlabel 'tokens'
    plot for [i=0:curves-1] 'memory.dat' index i using 1:2 with lines lw 2 lt i + 1 title columnheader(1)
}
set output
reset
