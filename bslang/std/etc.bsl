# A short global input in front of a long one: it sees all, and all see it and their window.
# Source: ETC (Ainslie 2020, 3.2), global-local attention.
# g: length of the global input; w: width of the window of the long one, odd.
etc(g = 2, w = 3) = window(w) | global(0:g)
