/* Names for fixed settings. A preset is data: it stands for its spec, whose canonical text is what
 * rows show. A preset of one stage takes more parameters: `kivi2:residual_length=32`. */
#include "methods/spec.h"

const struct kv_preset kv_presets[] = {
    {"kivi2", "kivi:bits=2", "KIVI as published, 2 bits"},
    {"kivi4", "kivi:bits=4", "KIVI as published, 4 bits"},
    {"int8", "int:bits=8", "round to nearest, 8 bits"},
    {"int4", "int:bits=4", "round to nearest, 4 bits"},
    {"int3", "int:bits=3", "round to nearest, 3 bits"},
    {"int2", "int:bits=2", "round to nearest, 2 bits"},
    {"tq2", "turboquant:bits=2", "TurboQuant, 2 bits"},
    {"tq3", "turboquant:bits=3", "TurboQuant, 3 bits"},
    {"tq4", "turboquant:bits=4", "TurboQuant, 4 bits"},
    {"tq2.5", "turboquant:bits=2.5", "TurboQuant, some channels at 3 bits, the others at 2"},
    {"tq3.5", "turboquant:bits=3.5", "TurboQuant, some channels at 4 bits, the others at 3"},
    {"gear-l", "gear:sparsity=0", "GEAR without outliers"},
    {"kvquant4", "kvquant:bits=4", "KVQuant, 4 bits and 1 % outliers"},
    {"kvquant3", "kvquant:bits=3", "KVQuant, 3 bits and 1 % outliers"},
    {"kvquant2", "kvquant:bits=2", "KVQuant, 2 bits and 1 % outliers, Q-Norm"},
    {"int4-sym", "int:bits=4:grid=symmetric", "round to nearest about 0, 4 bits"},
    {"fp8_e4m3", "fp8:format=e4m3", "vLLM's and SGLang's fp8_e4m3 without scales"},
    {"fp8_e5m2", "fp8:format=e5m2", "vLLM's and SGLang's fp8_e5m2"},
    {"fp8_per_token_head", "fp8:scale=token", "vLLM's fp8_per_token_head"},
    {"fp4_e2m1", "mxfp4:group_size=16:rule=ceil", "SGLang's fp4_e2m1, but for ties"},
    {"llama-k8v4", "k.hadamard+k.q8_0+v.hadamard+v.q4_0",
     "llama.cpp since 2026: -ctk q8_0 -ctv q4_0, rotated"},
    {"streamingllm", "streaming:budget=0.2:sinks=4", "StreamingLLM, four sinks"},
    {"control", "random:budget=0.1+turboquant:bits=1",
     "negative control, 1 bit and random eviction: every gate must fail it"},
    {0}};
