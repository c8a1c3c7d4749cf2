# Atoms in runs of nq, each of which sees the nk atoms around its middle.
# Source: AlphaFold 3 (Abramson 2024), supplement, algorithm 7.
# nq: length of a run; nk: how many atoms are seen.
af3_atoms(nq = 32t, nk = 128t) = {q, k : (nq - nk) // 2 <= k - q // nq * nq < (nq + nk) // 2}

# Atoms in runs of nq, each of which sees nk atoms, also at the ends.
# Source: AlphaFold 3 (Abramson 2024), its released code.
# nq: length of a run; nk: how many atoms are seen.
af3_atoms_clamped(nq = 32t, nk = 128t) = {q, k :
    0 <= k - min(max(q // nq * nq + nq // 2 - nk // 2, 0), len_k - nk) < nk
}
