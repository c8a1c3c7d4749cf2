// arguments.h: the arguments of the C interface.

#ifndef BSLANG_ARGUMENTS_H
#define BSLANG_ARGUMENTS_H

#include <cstdint>

namespace bslang {

enum Dtype : int64_t { float32 = 0, bfloat16 = 1, float16 = 2 };

// What bslang_forward and bslang_backward return: from the last on, a pass that has to be given to them
// first, by its number in bslang_passes.
enum Status : int32_t { done = 0, out_of_memory = 1, other_version = 2, first_missing = 3 };

// Tensor: (batch, heads, length, dim), or (batch, heads, length) with a dim of 1. Strides are in
// elements; the last dimension is dense. q and k have one dim, v and what it is summed to another. With
// pages it is (pages, heads, page size, dim): the page takes the place of the batch.
//
// Pages: the page of each `size` positions, int32 (batch, heads, pages), with the strides of the first
// two; -1 for one that is not there, which nothing reads. A page of queries is a block.
//
// Table: the runs of every block row, or of every block column; see bslang.schedule. Without an
// order, program p is of block p, and of all blocks a call takes those where its tokens stand.
//
// Arguments:
//   abi              the caller's digest of bslang/abi.py; a caller of another one is refused
//   apart            whether the tables of rows and of columns are not of the same blocks: dQ and dK with
//                    dV are then passes of their own, of which those without a tensor are left out
//   q_start          query x is in block row (q_start + x) / block_q
//   q_first, q_step  for masks, query x is at q_first + x * q_step; the step is 0 where the queries
//                    are the heads that read one key head, else the position is q_start + x
//   places           where rows of the batch have lengths of their own, those of each: q_start, which
//                    may be negative, q_first and len_k; null where the numbers above are for all
//   softcap          0 for none
//   parameters       of the masks, one group for each graph
//   head_graph       the graph of each query head, where heads have graphs of their own
//   q_order, k_order  the position of the token at each place, for masks of a layout with an order
//   label_heads      heads of the labels: 1, or so many that query head h reads h * label_heads / heads
//   q_labels, k_labels  (labels, batch, label_heads, length)
//   sinks            (1, heads, len_q), fp32; null for none
//   q_ranges, k_ranges  the least and the greatest label of each block, (labels, batch, label_heads,
//                    blocks, 2)
//   q_blocks, k_blocks  of what the call says of blocks: from that of the first query on, and all
//   selections       of the layout, in order
//
// Selection: cells of `rows` queries by `cols` keys that a call lists, for `groups` of query heads.
//   batch            1 where each sequence has its own, 0 where all share one
//   bits             which cells are listed: (batch, groups, lines, bytes), 8 cells a byte, the first the
//                    lowest
//   first            number of the line that holds the first query, counted from position 0
//   by_row, by_col   how many pairs of each block lie in listed cells: none (0), some (1) or all (2);
//                    (batch, groups, q_blocks, k_blocks), and the same transposed

// ---- begin: generated from bslang/abi.py
constexpr int64_t abi = 0x70f4f95be21e84c;

struct Pages {
    const int32_t* table;
    int64_t size, batch, head;
};

struct Tensor {
    void* data;
    const Pages* pages;
    int64_t batch, head, row, dim, dtype;
};

struct Table {
    const int32_t* order;
    const int32_t* pointer;
    const int32_t* runs;
    int64_t programs;
};

struct Selection {
    const uint8_t* bits;
    const uint8_t* by_row;
    const uint8_t* by_col;
    int64_t rows, cols, batch, groups, first, lines, bytes;
};

struct Arguments {
    int64_t abi, threads, apart, batch, heads, key_heads, len_q, len_k, q_start, q_first, q_step;
    const int64_t* places;
    int64_t q_blocks, k_blocks;
    double scale, softcap;
    Table by_row, by_col;
    const int64_t* parameters;
    const int32_t* head_graph;
    const int32_t* q_order;
    const int32_t* k_order;
    const int32_t* q_labels;
    const int32_t* k_labels;
    const int32_t* q_ranges;
    const int32_t* k_ranges;
    int64_t label_heads;
    const Selection* selections;
    Tensor q, k, v, sinks, out, lse, grad_out, grad_lse, dq, dk, dv;
};
// ---- end

}  // namespace bslang

#endif  // BSLANG_ARGUMENTS_H
