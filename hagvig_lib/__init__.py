"""Hard-attention gates with gradient routing, and ViG: a book's library.

Import the part that you need: `hagvig_lib.gates`, `hagvig_lib.gla`.
"""

__version__ = "0.1.0"
