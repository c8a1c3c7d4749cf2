# LongLoRA's shifted sparse attention: groups of tokens, half a group further for half of the heads.
# Source: LongLoRA (Chen 2023, 3.2), the path of its code that runs FlashAttention: the first group of
# the shifted heads is half as long.
# half: first head that is shifted, half of the heads; g: length of a group, a quarter of 8k tokens.
longlora(half = 16, g = 2048t) = heads { 0:half -> chunks(g); half: -> chunks(g // 2, g) } & causal

# LongLoRA's groups where shifted heads go round the end: the first half group sees the last keys too.
# Source: LongLoRA (Chen 2023, 3.2), the path of its code without FlashAttention, which rolls tokens.
# half, g: as for `longlora`; g is even, and divides the length.
longlora_roll(half = 16, g = 2048t) = heads {
    0:half -> chunks(g) & causal;
    half: -> chunks(g // 2, g) & causal | rows(0:g // 2) & cols(-(g // 2):)
}
