"""One file for each command; `waybill.cli.group` has the list of them, and loads one when it is invoked."""
