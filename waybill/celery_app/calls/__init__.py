"""The calls that publish tasks, read in the source of a project. Nothing is imported, nothing is run.

project.py      which files belong to the project
names.py        what the names of a module and of a function stand for
evaluation.py   expressions: tasks, signatures, canvases, constants
reading.py      the calls of all files, and what of them couldn't be read
scheduled.py    the calls of `celery beat`, and how long a retry waits
values.py       the results
"""
