import pytest

from inventory.errors import QueryError
from sql.queries import load_queries, parse_queries


def test_a_query_reaches_from_its_header_to_the_next_one():
    queries = parse_queries(
        [
            (
                "a.sql",
                "-- About the file.\n\n-- name: one\nSELECT 1,\n    2\n\n-- name: two\nSELECT 3\n",
            ),
            ("b.sql", "-- name: three\n-- 100% a comment\nSELECT %(x)s\n"),
        ]
    )
    assert queries.names == {"one", "two", "three"}
    assert queries["one"] == "SELECT 1,\n    2"
    assert queries["two"] == "SELECT 3"
    assert queries["three"] == "SELECT %(x)s"


def test_an_unknown_name_is_told_with_the_known_ones():
    queries = parse_queries([("a.sql", "-- name: one\nSELECT 1\n-- name: two\nSELECT 2")])
    with pytest.raises(QueryError, match=r"no query named 'tow'; known are one, two\."):
        queries["tow"]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (
            [("a.sql", "-- name: one\nSELECT 1"), ("b.sql", "\n-- name: one\nSELECT 2")],
            r"b\.sql:2: the query one is already defined at a\.sql:1",
        ),
        ([("a.sql", "-- name: one\n-- nothing\n")], r"a\.sql:1: the query one is empty"),
        ([("a.sql", "SELECT 1")], r"a\.sql:1: SQL stands before the first"),
        ([("a.sql", "-- name: one query\nSELECT 1")], r"a\.sql:1: 'one query' cannot be a query's"),
        ([("a.sql", "-- name:\nSELECT 1")], r"a\.sql:1: '' cannot be a query's name"),
    ],
)
def test_a_malformed_file_is_told_with_file_and_line(sources, message):
    with pytest.raises(QueryError, match=message):
        parse_queries(sources)


def test_the_queries_of_the_package_load():
    assert "move_stock" in load_queries().names
