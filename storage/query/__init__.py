"""What is stored, asked in types: the one way in which API, commands and console read PostgreSQL.

service.py      the questions: pages of parts, a part, counts, rates, choices, summaries
filters.py      which parts are meant            answers.py      what is answered
scope.py conditions.py search.py lines.py counting.py summaries.py      how that is found
since.py population.py changes.py                since when a rate or a score has changed
labels.py       what people and detectors call defects, for export and training
reading.py      one look at the database, all of one moment
"""
