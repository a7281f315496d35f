#!/usr/bin/env python3
"""Records the micro-traces beside this file, or into the folder named as first argument.

Small models with seeded random weights, of transformers' own configurations: one a kind of attention that the
field's models have. What they say is no text; their shapes, masks, rotations and sharing are what counts.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "recorder"))

import support as s      # first: it puts traces/record on the path
import models

LENGTH = ["--tokens", 48, "--prefill", 32, "--windows", "34:40,41:47", "--fisher-probes", 2]
SHORT = ["--tokens", 32, "--prefill", 24, "--windows", "25:28,28:31", "--fisher-probes", 1]
TWO_KINDS = dict(layer_types=["sliding_attention", "full_attention"], sliding_window=16)
MLA = dict(num_key_value_heads=6, q_lora_rank=24, kv_lora_rank=32, qk_rope_head_dim=8, qk_nope_head_dim=16,
           v_head_dim=12, n_routed_experts=4, num_experts_per_tok=2, n_group=1, topk_group=1, first_k_dense_replace=1,
           moe_intermediate_size=16, n_shared_experts=1)

# name -> (family of transformers, what differs from support.COMMON, options of the recorder)
MICRO = {
    "llama_gqa": ("Llama", dict(head_dim=16), ["--w-o", "--x2"]),
    "llama_mha_d80": ("Llama", dict(head_dim=80, num_attention_heads=2, num_key_value_heads=2), ["--x2"]),
    "llama_yarn": ("Llama", dict(head_dim=16, rope_parameters=dict(
        rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=64)), []),
    "mqa_bf16": ("Llama", dict(head_dim=16, num_key_value_heads=1), ["--dtype", "bf16", "--w-o"]),
    "qwen3_qk_norm": ("Qwen3", dict(head_dim=32, num_attention_heads=4), ["--dtype", "f32"]),
    "gemma3_d256": ("Gemma3Text", dict(TWO_KINDS, head_dim=256, num_attention_heads=2, num_key_value_heads=1,
                                       query_pre_attn_scalar=256), SHORT),
    "gemma2_softcap": ("Gemma2", dict(TWO_KINDS, head_dim=16, attn_logit_softcapping=2.0), ["--w-o"]),
    "gpt_oss_sinks": ("GptOss", dict(TWO_KINDS, head_dim=16, num_local_experts=2, num_experts_per_tok=1), []),
    "gemma4_shared": ("Gemma4Text", dict(
        head_dim=16, global_head_dim=16, num_kv_shared_layers=2, sliding_window=16, vocab_size_per_layer_input=97,
        hidden_size_per_layer_input=8, num_global_key_value_heads=2, num_hidden_layers=4,
        layer_types=["sliding_attention", "full_attention"] * 2), []),
    "deepseek_mla": ("DeepseekV3", MLA, ["--w-o"]),
    "neox_partial": ("GPTNeoX", dict(num_key_value_heads=6, hidden_size=96), []),
    "cohere_interleaved": ("Cohere", dict(head_dim=16), []),
    "smollm3_nope": ("SmolLM3", dict(head_dim=16, no_rope_layers=[1, 0]), ["--question-start", "24"]),
}


def record(name, folder):
    family, changes, more = MICRO[name]
    model = s.tiny(family, **{"num_hidden_layers": 2, **changes})
    about = dict(model=f"{family} with random weights", model_digest="synthetic:transformers random weights:3",
                 model_config=models.config_json(model), text="random token ids, seed 5")
    args = s.arguments(os.path.join(folder, name + ".h5"), *LENGTH, "--spans", "needle=8:12", "--deflate", *more)
    s.record.record_model(args, model, s.random_ids(args.tokens), about)


if __name__ == "__main__":
    for name in MICRO:
        record(name, sys.argv[1] if len(sys.argv) > 1 else HERE)
