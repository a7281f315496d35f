# What all figures share. A figure script draws base.svg, and base.png where gnuplot can.
set encoding utf8
set tics nomirror
set border 3 lc rgb '#444444'
kinds = strstrt(GPVAL_TERMINALS, 'pngcairo') ? 'svg png' : 'svg'
# Both agree to the pixel, so that labels placed for one fit the other.
open(kind) = sprintf(kind eq 'svg' \
    ? "set terminal svg size %d,%d font 'sans-serif,12' background rgb 'white'" \
    : "set terminal pngcairo size %d,%d font 'sans-serif,9' background rgb 'white'", width, height)
# The plot area, in shares of the figure, as the data's labels were placed for.
area = "set lmargin at screen area_left; set rmargin at screen area_right; " \
     . "set bmargin at screen area_bottom; set tmargin at screen area_top"
words_on = "unset label; " \
    . "set label 1 title at screen 0.012, screen 1 - 16.0 / height left noenhanced font ',14'; " \
    . "set label 2 subtitle at screen 0.012, screen 1 - 36.0 / height left noenhanced tc rgb '#555555'; " \
    . "set label 3 stamp at screen 0.99, screen 9.0 / height right noenhanced font ',8' tc rgb '#888888'"
