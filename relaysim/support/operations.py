"""Kinds of operations that a step is made of, of which `relaysim.support.kernels` does each."""

# Number by number.
ADD, SUBTRACT, MULTIPLY, DIVIDE = 0, 1, 2, 3
ADD_NUMBER, SUBTRACT_FROM_NUMBER, MULTIPLY_BY_NUMBER, DIVIDE_BY_NUMBER = 4, 5, 6, 7
COPY = 8
# Two of them in one: a − number · b, number · (a + b), a − b · c and a + b · c.
LESS_MULTIPLE, MULTIPLE_OF_SUM, LESS_PRODUCT, PLUS_PRODUCT = 9, 10, 11, 12
# The same with a row of numbers that all workers share: a_i · b, a_i / b, and a_i − b_i · c.
MULTIPLY_BY_ROW, DIVIDE_BY_ROW, LESS_PRODUCT_WITH_ROW = 13, 14, 15
# Gradients of quadratics: H_i x_i − c_i, and h_i · (x_i − c_i) number by number.
GRADIENT, DIAGONAL_GRADIENT = 16, 17
# number − a_i in all of row i, of a whole number for each worker.
SPREAD = 18
# What needs the rows of others; COUNT is RELAY of whole numbers, one for each worker and edge.
GOSSIP, CHANGE, RELAY, COUNT, AVERAGE = 19, 20, 21, 22, 23
# Gradients that are asked for: of who draws them, or of a problem that has no kind of its own.
ASK = 24
