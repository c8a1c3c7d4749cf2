# Layers with a sliding window, and every p-th layer with full causal attention.
# Source: Gemma 3 (2025, 2), Cohere 2 and OLMo 3 in transformers, `layer_types`.
# w: tokens of the window, the query's own included; p: the layers p - 1, 2p - 1, ... are full.
interleaved(w = 4096t, p = 4) = (last(w) | {i, j : layer % p == p - 1}) & causal

# Gemma 3: five layers with a sliding window, then a full one.
# Source: Gemma 3 (2025, 2); transformers' Gemma3TextConfig, sizes of the models from 4B on.
# w: tokens of the window; p: layers up to the full one.
gemma3(w = 1024t, p = 6) = interleaved(w, p)

# gpt-oss: layers with a sliding window and full layers take turns.
# Source: gpt-oss (OpenAI 2025); transformers' GptOssConfig.
# w: tokens of the window; p: layers up to the full one.
gpt_oss(w = 128t, p = 2) = interleaved(w, p)

# Layers with a sliding window; the first layer and every p-th have full causal attention.
# Source: MiMo-V2-Flash (Xiaomi 2025) in transformers, `layer_types`.
# w: tokens of the window, the query's own included; p: the layers 0, p - 1, 2p - 1, ... are full.
interleaved_first(w = 128t, p = 6) = (last(w) | {i, j : layer == 0 | layer % p == p - 1}) & causal

# Encoder layers with a window to both sides; the first layer of every p sees all.
# Source: ModernBERT (Warner 2024, 2.1); transformers' ModernBertConfig, local_attention=128.
# w: tokens seen to each side, besides the query's own; p: the layers 0, p, 2p, ... are full.
interleaved_encoder(w = 64t, p = 3) = window(left=w, right=w) | {i, j : layer % p == 0}

# ModernBERT: a full layer, then two with a window of 64 tokens to each side.
# Source: ModernBERT (Warner 2024, 2.1); transformers' ModernBertConfig.
# w: tokens seen to each side; p: layers from one full layer to the next.
modernbert(w = 64t, p = 3) = interleaved_encoder(w, p)
