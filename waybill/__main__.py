"""`python -m waybill` is `waybill`."""

from waybill.cli import program

if __name__ == "__main__":
    program()
