# Each block sees the one block that lies `shift` further, around the end.
# Source: BlockBERT (Qiu 2019, 3), a head whose permutation of the blocks is a shift.
# shift: how far.
blockbert(shift = 1) = window(left=-shift, right=shift, wrap=true)

# Each head h sees the block that lies h further, around the end; head 0 sees its own.
# Source: BlockBERT (Qiu 2019, 3).
blockbert_heads = window(left=-head, right=head, wrap=true)
