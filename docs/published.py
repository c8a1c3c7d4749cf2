"""How generate.py draws the published layouts: with which parameters, and for which fields."""

from __future__ import annotations

DRAWN = {
    "alphafold3:af3_atoms": "nq=64t nk=256t",
    "alphafold3:af3_atoms_clamped": "nq=64t nk=256t",
    "axial:axial": "h=3 w=4",
    "axial:axial_heads": "h=3 w=4",
    "block_causal:asr_chunks": "c=128t left=2",
    "block_causal:block_causal": "c=192t",
    "block_causal:block_causal_i2v": "f=64t c=192t",
    "block_causal:pi0": "p=448t s=64t h=256t",
    "block_diffusion:block_diffusion": "b=128t",
    "deepseek:hca": "each=2t",
    "deepseek:nsa_compression": "l=8t d=2t",
    "duo:duo": "full=1 sinks=64t recent=192t head=1",
    "etc:etc": "g=2 w=3",
    "gna:gna1d": "w=5 s=3",
    "gna:gna1d_causal": "w=5 s=3",
    "gna:gna3d": "t=12 h=8 w=8 kt=8 kh=8 kw=8 st=4 sh=4 sw=4",
    "gna:gna2d": "h=3 w=4 kh=3 kw=3 sh=1 sw=2",
    "hymba:hymba": "meta=64t w=192t",
    "in_context:icl": "p=512t",
    "in_context:icl_self": "p=512t",
    "interleaved:interleaved": "w=192t",
    "interleaved:gemma3": "w=192t",
    "interleaved:interleaved_first": "w=192t layer=1",
    "interleaved:interleaved_encoder": "layer=1",
    "interleaved:modernbert": "layer=1",
    "llama4:llama4": "c=4",
    "longformer:longformer": "w=3 g=1",
    "longformer:dilated": "w=5 gap=2",
    "longlora:longlora": "half=1 g=256t head=1",
    "longlora:longlora_roll": "half=1 g=256t head=1",
    "longnet:longnet_dilated": "w=6 r=2",
    "longnet:longnet": "w1=4 r1=1 w2=12 r2=3",
    "longnet:longnet_mixture": "w=1",
    "minference:a_shape": "sinks=1 recent=3",
    "minference:tri_shape": "sinks=1 recent=2 tail=2",
    "mistral:mistral": "w=3",
    "natten:natten": "k=3",
    "natten:natten_dilated": "k=3 gap=2",
    "natten:natten2d": "h=3 w=4 k=3",
    "natten:natten3d": "t=3 h=2 w=2 k=3",
    "phi3:phi3": "local=4 vert=3 count=1",
    "prefix_lm:prefix_lm": "p=3",
    "radial:radial_wan": "f=64t b=8t",
    "radial:radial_hunyuan": "f=64t b=8t t=64t",
    "self_forcing:self_forcing": "c=128t local=256t",
    "self_forcing:self_forcing_sink": "c=128t local=320t s=64t",
    "self_forcing:teacher_forcing": "c=2",
    "sliding_tile:sliding_tile": "t=3 h=2 w=2",
    "sliding_tile:sliding_tile_tokens": "t=12 h=8 w=8 a=4 b=4 c=4",
    "sparse_transformer:fixed": "s=256t c=64t",
    "sparse_transformer:local_head": "e=1",
    "sparse_transformer:strided_head": "s=4",
    "sparse_transformer:strided_pattern": "s=4",
    "star:star": "c=192t a=128t u=64t",
    "streaming_llm:streaming_llm": "sinks=1 recent=3",
    "svg:svg_spatial": "p=64t f=128t width=2 r=64t",
    "svg:svg_temporal": "p=64t f=128t F=6",
    "svg:svg_temporal_band": "p=64t f=128t F=6 w=96t",
    "swin:swin": "w=32t side=8t shift=4t",
    "time_series:time_attention": "T=192t",
    "time_series:time_covariate": "T=192t",
    "trianglemix:trianglemix": "start=0 sinks=64t recent=192t tail=64t",
    "vggt:vggt": "f=192t",
}
"""Parameters, head and layer at which a published layout is drawn, where those of its paper show little."""

FIELDS = {
    "Text encoders": (
        "bigbird:bigbird longformer:longformer longformer:dilated etc:etc interleaved:modernbert "
        "blockbert:blockbert pixelfly:pixelfly deepspeed:fixed"
    ),
    "Language models": (
        "mistral:mistral interleaved:gemma3 interleaved:gpt_oss llama4:llama4 phi3:phi3 hymba:hymba "
        "longlora:longlora sparse_transformer:fixed sparse_transformer:strided_head moa:moa power:power "
        "deepseek:nsa_compression deepseek:hca block_diffusion:block_diffusion prefix_lm:prefix_lm"
    ),
    "Images and video": (
        "axial:axial natten:natten2d swin:swin gna:gna2d sliding_tile:sliding_tile radial:radial_wan "
        "svg:svg_spatial svg:svg_temporal block_causal:block_causal self_forcing:self_forcing_sink "
        "self_forcing:teacher_forcing vggt:vggt block_causal:pi0"
    ),
    "Genomes, molecules and long documents": (
        "longnet:longnet longnet:longnet_mixture bigbird:bigbird_etc hepos:hepos natten:natten_dilated "
        "alphafold3:af3_atoms"
    ),
    "Time series, speech and tables": (
        "logsparse:log_sparse logsparse:log_sparse_local time_series:time_attention "
        "time_series:time_covariate block_causal:asr_chunks in_context:icl"
    ),
    "Serving": (
        "streaming_llm:streaming_llm minference:a_shape minference:tri_shape minference:vertical_slash "
        "star:star trianglemix:trianglemix duo:duo"
    ),
}
"""What gallery.md shows, by the field that it is for."""
