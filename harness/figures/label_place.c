/* Label placement: every label tries a fan of positions around its point and takes the cheapest. */
#include "harness/figures/label_place.h"

#include <math.h>

struct scene {
    struct kv_label *labels;
    const struct kv_box *lines;
    size_t n, n_lines;
    double width, height;
};

enum { DIRECTIONS = 16, DISTANCES = 9, PASSES = 4, MARKER = 7 };

static double overlap(const struct kv_box *a, const struct kv_box *b)
{
    const double width = fmin(a->right, b->right) - fmax(a->left, b->left);
    const double height = fmin(a->top, b->top) - fmax(a->bottom, b->bottom);
    return width > 0 && height > 0 ? width * height : 0;
}

static double outside(const struct kv_box *box, double width, double height)
{
    return fmax(0, -box->left) + fmax(0, -box->bottom) + fmax(0, box->right - width)
         + fmax(0, box->top - height);
}

/* The text's box when it is pushed from its point in a direction until it is `distance` away. */
static struct kv_box candidate(const struct kv_label *label, int direction, double distance)
{
    const double angle = 2 * 3.14159265358979 * direction / DIRECTIONS;
    const double across = cos(angle), up = sin(angle);
    const double x = label->x + across * (distance + label->width / 2);
    const double y = label->y + up * (distance + label->height / 2);
    return (struct kv_box){x - label->width / 2, y - label->height / 2, x + label->width / 2,
                           y + label->height / 2};
}

/* Square pixels covered, weighed: text on text is worst, text on a marker nearly, on a bar
 * bearable. Distance costs a little, so that of two free places the nearer wins. */
static double cost(const struct scene *scene, size_t i, size_t n_placed, const struct kv_box *box)
{
    double sum = 0;
    for (size_t l = 0; l < scene->n_lines; l++) sum += 3 * overlap(box, &scene->lines[l]);
    for (size_t j = 0; j < scene->n; j++) {
        const struct kv_label *other = &scene->labels[j];
        const struct kv_box marker = {other->x - MARKER, other->y - MARKER, other->x + MARKER,
                                      other->y + MARKER};
        const struct kv_box bar = {other->x - 2, other->bar_low, other->x + 2, other->bar_high};
        sum += 6 * overlap(box, &marker) + 1.5 * overlap(box, &bar);
        if (j != i && j < n_placed) {
            const struct kv_box padded = {other->box.left - 3, other->box.bottom - 1,
                                          other->box.right + 3, other->box.top + 1};
            sum += 10 * overlap(box, &padded);
        }
    }
    return sum;
}

static void place(const struct scene *scene, size_t i, size_t n_placed)
{
    static const double distances[DISTANCES] = {9, 13, 18, 25, 34, 46, 60, 80, 105};
    struct kv_label *label = &scene->labels[i];
    double best = INFINITY;
    for (int d = 0; d < DISTANCES; d++) {
        for (int k = 0; k < DIRECTIONS; k++) {
            const struct kv_box box = candidate(label, k, distances[d]);
            const double total = cost(scene, i, n_placed, &box) + 2.5 * distances[d]
                               + 1000 * outside(&box, scene->width, scene->height)
                               + (k == 0 ? 0 : k == DIRECTIONS / 2 ? 3 : 6);
            if (total >= best) continue;
            best = total;
            label->box = box;
            label->far = distances[d] > 20;
        }
    }
}

void kv_place_labels(struct kv_label *labels, size_t n, const struct kv_box *lines, size_t n_lines,
                     double area_width, double area_height)
{
    const struct scene scene = {labels, lines, n, n_lines, area_width, area_height};
    for (size_t i = 0; i < n; i++) place(&scene, i, i);
    for (int pass = 0; pass < PASSES; pass++) {
        for (size_t i = 0; i < n; i++) place(&scene, i, n);
    }
}
