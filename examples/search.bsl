# A dozen layouts for language models, to be scored by loss and by cost. None sees a later token.
block 64

import "std/bigbird.bsl" as big
import "std/longnet.bsl" as net
import "std/phi3.bsl" as phi
import "std/sparse_transformer.bsl" as st

own_block = chunks(1) & causal
window_2 = last(2) & causal
window_4 = last(4) & causal
window_8 = last(8) & causal
sinks_4 = (last(4) | cols(0)) & causal
dilated_4 = (last(1) | diagonals(2, 4, 6)) & causal
doubling = logsparse(2) & causal
strided_4 = st.strided_pattern(s=4)
fixed_4 = st.fixed(s=256t, c=64t)
bigbird = big.bigbird(w=3, r=2) & causal
longnet = net.longnet(w1=4, w2=16, r2=4)
phi3 = phi.phi3(local=3, vert=8, count=4)
