# A short global input in front of a long one: it sees all, and all see it and their window.
# Source: ETC (Ainslie 2020, 3.2), global-local attention.
# g: length of the global input; w: width of the window of the long one, odd. 230 global tokens and a
# radius of 84 are those of its base model for questions on documents.
etc(g = 230t, w = 169t) = window(w) | global(0:g)
