"""Kinds of operations that a step is made of, of which `relaysim.support.kernels` does each."""

# Number by number.
ADD, SUBTRACT, MULTIPLY, DIVIDE = 0, 1, 2, 3
ADD_NUMBER, SUBTRACT_FROM_NUMBER, MULTIPLY_BY_NUMBER, DIVIDE_BY_NUMBER = 4, 5, 6, 7
COPY = 8
# Two of them in one: a − number · b, number · (a + b), and a − b · c.
LESS_MULTIPLE, MULTIPLE_OF_SUM, LESS_PRODUCT = 9, 10, 11
# H_i x_i − c_i of each worker.
GRADIENT = 12
# number − a_i in all of row i, of a whole number for each worker.
SPREAD = 13
# What needs the rows of others; COUNT is RELAY of whole numbers, one for each worker and edge.
GOSSIP, CHANGE, RELAY, COUNT, AVERAGE = 14, 15, 16, 17, 18
