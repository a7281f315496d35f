# Bytes of a sequence's cache against its length, and the weights as level lines.
# memory.dat: blocks of context bytes, each headed by its curve's name; curves is their number, models
# has the model of each (from 1) and methods its method (from 1; 0: the weights); longest is the longest
# name, in characters.
width = longest > 37 ? 700 + 7 * longest : 960; height = 560
load 'style.gp'
# A colour a method, a dash a model; weights are grey.
colours = '#0072b2 #d55e00 #009e73 #cc79a7 #e69f00 #332288 #56b4e9 #882255 #999933 #44aa99 #117733 #aa4499 #661100 #6699cc'
colour(i) = word(methods, i) eq '0' ? '#777777' : word(colours, (int(word(methods, i)) - 1) % words(colours) + 1)
dash(i) = (int(word(models, i)) - 1) % 5 + 1
do for [kind in kinds] {
    eval open(kind)
    set output 'memory_context.'.kind
    unset label
    set label 1 'Memory of one sequence against its length' at screen 0.012, screen 1 - 16.0 / height left \
        noenhanced font ',14'
    set lmargin 13
    set rmargin at screen 623.0 / width
    set tmargin 3
    set key at graph 1.02, graph 1 left top Left reverse noenhanced samplen 4 spacing 1.1 font ',9'
    set logscale xy 2
    set xtics ('1Ki' 2**10, '4Ki' 2**12, '16Ki' 2**14, '64Ki' 2**16, '256Ki' 2**18, '1Mi' 2**20)
    set format y '%.0b %BB'
    set grid xtics ytics lc rgb '#e4e4e4' lt 1 lw 0.7
    set xlabel 'tokens in the sequence (log scale)'
    set ylabel 'bytes of its cache, or of the weights (log scale)'
    plot for [i=0:curves-1] 'memory.dat' index i using 1:2 with lines lw 2 lc rgb colour(i + 1) dt dash(i + 1) \
        title columnheader(1)
}
set output
reset
