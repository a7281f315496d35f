/* Rows of datasets in chunks are what the library says they are, whatever the chunks' shape. */
#include <criterion/criterion.h>

#include "tests/unit/test_trace_fixture.h"
#include "traces/h5.h"

enum { A = 5, B = 7, C = 6, WORDS = A * B * C };

static const hsize_t dims[] = {A, B, C};

static hid_t chunked(hid_t file, const hsize_t chunk[3])
{
    const hsize_t may_grow[] = {A, H5S_UNLIMITED, C}; /* chunks may then be longer than what is there */
    const hid_t list = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(3, dims, chunk[1] > B ? may_grow : NULL);
    H5Pset_chunk(list, 3, chunk);
    const hid_t dataset = H5Dcreate2(file, "words", H5T_STD_U16LE, space, H5P_DEFAULT, list, H5P_DEFAULT);
    H5Pclose(list);
    H5Sclose(space);
    cr_assert_geq(dataset, 0);
    return dataset;
}

/* All words but those of the first `unwritten` rows; front: bytes of a user's own before the file's. */
static void make(const char *path, const hsize_t chunk[3], hsize_t unwritten, hsize_t front)
{
    uint16_t words[WORDS];
    const hsize_t from[] = {unwritten, 0, 0}, count[] = {A - unwritten, B, C};
    const hid_t list = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_userblock(list, front);
    const hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, list, H5P_DEFAULT), dataset = chunked(file, chunk);
    const hid_t space = H5Dget_space(dataset), memory = H5Screate_simple(3, count, NULL);
    for (uint32_t i = 0; i < WORDS; i++) words[i] = (uint16_t)(1000 + 7 * i);
    H5Sselect_hyperslab(space, H5S_SELECT_SET, from, NULL, count, NULL);
    cr_assert_geq(H5Dwrite(dataset, H5T_NATIVE_UINT16, memory, space, H5P_DEFAULT, words + unwritten * B * C), 0);
    H5Sclose(memory);
    H5Sclose(space);
    H5Dclose(dataset);
    H5Fclose(file);
    H5Pclose(list);
}

/* Every range of rows; runs: whether they are to be found. */
static void expect_rows(const hsize_t chunk[3], hsize_t unwritten, hsize_t front, bool runs)
{
    char path[128];
    struct kv_error err = {""};
    struct kv_h5 *file;
    struct kv_h5_data data;
    make(scratch(path, "chunks"), chunk, unwritten, front);
    cr_assert_eq(kv_h5_open(&file, path, &err), KV_OK, "%s", err.text);
    cr_assert_eq(kv_h5_describe(&data, file, "words", &err), KV_OK, "%s", err.text);
    cr_assert_eq(data.run[0] > 0, runs, "%d %d %d", (int)chunk[0], (int)chunk[1], (int)chunk[2]);
    for (uint64_t first = 0; first < A; first++)
        for (uint64_t n = 1; first + n <= A; n++) {
            uint16_t words[WORDS + 1];
            memset(words, 0xff, sizeof words);
            cr_assert_eq(kv_h5_read(words, file, "words", &data, first, n, &err), KV_OK, "%s", err.text);
            for (uint64_t i = 0; i < n * B * C; i++) {
                const uint64_t at = first * B * C + i;
                cr_assert_eq(words[i], at < unwritten * B * C ? 0 : (uint16_t)(1000 + 7 * at), "word %d", (int)at);
            }
            cr_assert_eq(words[n * B * C], 0xffff);
        }
    kv_h5_close(file);
    unlink(path);
}

Test(h5_chunks, rows_are_read_whatever_the_chunks)
{
    const hsize_t runs[][3] = {{1, B, C}, {1, 3, C}, {2, B, C}, {A, B, C}, {1, 1, C}, {1, 1, 4}, {1, 1, 1}, {1, B + 2, C}};
    const hsize_t others[][3] = {{2, 3, C}, {1, 3, 4}, {2, 2, 2}, {2, B, 1}};
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) expect_rows(runs[i], 0, 0, true);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) expect_rows(others[i], 0, 0, false);
}

Test(h5_chunks, chunks_that_were_never_written_are_filled)
{
    expect_rows((const hsize_t[]){1, 3, C}, 2, 0, true);
    expect_rows((const hsize_t[]){2, B, C}, 2, 0, true);
}

Test(h5_chunks, addresses_behind_a_user_block_are_left_to_the_library)
{
    expect_rows((const hsize_t[]){1, 3, C}, 0, 512, false);
}

/* A chunk that ends behind the file is an error that names it. */
Test(h5_chunks, a_truncated_file_is_no_crash)
{
    char path[128];
    struct kv_error err = {""};
    struct kv_h5 *file;
    struct kv_h5_data data;
    uint16_t words[WORDS];
    make(scratch(path, "cut"), (const hsize_t[]){1, 3, C}, 0, 0);
    cr_assert_eq(kv_h5_open(&file, path, &err), KV_OK, "%s", err.text);
    cr_assert_eq(kv_h5_describe(&data, file, "words", &err), KV_OK, "%s", err.text);
    cr_assert_eq(truncate(path, 2100), 0);
    cr_assert_neq(kv_h5_read(words, file, "words", &data, 0, A, &err), KV_OK);
    cr_assert(strstr(err.text, "/words"), "%s", err.text);
    kv_h5_close(file);
    unlink(path);
}
