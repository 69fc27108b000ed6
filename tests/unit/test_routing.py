"""The walk: alternates, exchanges behind exchanges, copies, dead letters, and a table that changes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waybill.errors import TopologyError, UnknownName
from waybill.routing import MAX_CACHED_ROUTES, Router
from waybill.routing.dead_letters import Deaths, Reason, is_cycle
from waybill.topology import Binding, Exchange, Message, Queue, Topology


def link(source: str, destination: str, key: str = "", **arguments: Any) -> Binding:
    return Binding(source, destination, key, arguments, "exchange")


def alternate(name: str, kind: str, other: str) -> Exchange:
    return Exchange(name, kind, arguments={"alternate-exchange": other})


def router(exchanges: Sequence[Exchange], bindings: Sequence[Binding], *more: Queue) -> Router:
    """A router with those, and a queue for each name a binding leads to."""
    names = dict.fromkeys(b.destination for b in bindings if b.destination_type == "queue")
    known = {queue.name for queue in more}
    queues = [Queue(name) for name in names if name not in known]
    return Router.of(Topology(exchanges, [*queues, *more], bindings))


class TestRoute:
    def test_the_default_exchange_takes_keys_for_names(self) -> None:
        routes = router([], [], Queue("a"), Queue("b"))
        assert routes.route(Message("", "a")) == ("a",)
        assert routes.route(Message("", "c")) == ()
        assert set(routes.route(Message("", "a", {"CC": ["b", "c"]}))) == {"a", "b"}

    def test_one_copy_a_queue(self) -> None:
        routes = router([Exchange("t", "topic")], [Binding("t", "q", key) for key in ("#", "a.*", "a.b")])
        assert routes.route(Message("t", "a.b", {"CC": ["a.b", "a.c"], "BCC": ["x"]})) == ("q",)

    def test_copies_are_keys_like_the_first(self) -> None:
        routes = router([Exchange("d")], [Binding("d", name, name) for name in "abc"])
        assert set(routes.route(Message("d", "z", {"CC": ["a", 1], "BCC": ["c"]}))) == {"a", "c"}

    def test_cycles_end(self) -> None:
        routes = router(
            [Exchange("x", "fanout"), Exchange("y", "fanout")],
            [link("x", "y"), link("y", "x"), link("x", "x"), Binding("y", "q"), Binding("x", "r")],
        )
        assert set(routes.route(Message("x"))) == set(routes.route(Message("y"))) == {"q", "r"}

    def test_the_source_type_decides_on_an_exchange(self) -> None:
        routes = router([Exchange("t", "topic"), Exchange("d")], [link("t", "d", "a.#"), Binding("d", "q", "a.b")])
        assert routes.route(Message("t", "a.b")) == ("q",)
        assert routes.route(Message("t", "a.c")) == ()

    def test_an_alternate_is_taken_only_when_nothing_matched(self) -> None:
        exchanges = [alternate("d", "direct", "spare"), Exchange("spare", "fanout"), Exchange("dead end")]
        routes = router(exchanges, [Binding("d", "q", "k"), Binding("spare", "s"), link("d", "dead end", "e")])
        assert routes.route(Message("d", "k")) == ("q",)
        assert routes.route(Message("d", "other")) == ("s",)
        assert routes.route(Message("d", "e")) == ()  # matched, though it leads nowhere

    def test_alternates_that_lead_nowhere(self) -> None:
        exchanges = [
            alternate("a", "direct", "b"),
            alternate("b", "direct", "a"),
            alternate("c", "direct", "none"),
            alternate("d", "direct", ""),
        ]
        routes = router(exchanges, [], Queue("k"))
        assert all(routes.route(Message(name, "k")) == () for name in "abcd")

    @pytest.mark.parametrize(
        ("message", "code", "text"),
        [
            (Message("none"), 404, "no exchange 'none' in vhost '/'"),
            (Message("inside"), 403, "cannot publish to internal exchange 'inside' in vhost '/'"),
            (Message("", "q", {"CC": "q"}), 406,
             'invalid message: {unacceptable_type_in_header,"CC",longstr}'),
            (Message("", "q", {"BCC": None}), 406,
             'invalid message: {unacceptable_type_in_header,"BCC",void}'),
            (Message("", "q", expiration="1.5"), 406,
             "invalid expiration '1.5': {leftover_string,\".5\"}"),
            (Message("", "q", expiration="-1"), 406, "invalid expiration '-1': {value_negative,-1}"),
            (Message("", "q", expiration=""), 406, "invalid expiration '': no_integer"),
            (Message("none", "q", expiration=""), 404, "no exchange 'none' in vhost '/'"),
        ],
    )  # fmt: skip
    def test_a_publish_is_refused_as_rabbitmq_refuses_it(self, message: Message, code: int, text: str) -> None:
        routes = router([Exchange("inside", internal=True)], [], Queue("q"))
        for publish in (routes.route, routes.trace):
            with pytest.raises(TopologyError) as refusal:
                publish(message)
            assert (refusal.value.reply_code, refusal.value.text) == (code, text)

    def test_remembered_routes_are_bounded_and_right(self) -> None:
        routes = router([Exchange("t", "topic")], [Binding("t", "q", "#.1")])
        for number in range(MAX_CACHED_ROUTES + 10):
            assert routes.route_key("t", f"{number}.1") == ("q",)
        assert sum(map(len, routes._routes.values())) <= MAX_CACHED_ROUTES


names = st.sampled_from(["x", "y", "z"])
binding_keys = st.sampled_from(["", "a", "a.b", "a.*", "#", "#.b"])
routing_keys = st.sampled_from(["", "a", "a.b", "a.b.b"])
header_tables = st.sampled_from([{}, {"n": 1}, {"n": True}, {"n": 1, "x-match": "any"}])
exchanges = st.builds(
    lambda name, kind, other: Exchange(name, kind, arguments={"alternate-exchange": other} if other else {}),
    names,
    st.sampled_from(["direct", "fanout", "topic", "headers"]),
    st.sampled_from([None, "x", "y", "none"]),
)
bindings = st.builds(
    lambda source, end, key, table: Binding(source, end, key, table, "exchange" if end in "xyz" else "queue"),
    names,
    st.sampled_from(["x", "y", "z", "q", "r"]),
    binding_keys,
    header_tables,
)
changes = st.lists(st.tuples(st.sampled_from(["bind", "unbind", "route"]), bindings), max_size=25)
messages = st.builds(
    lambda exchange, key, headers, copies: Message(exchange, key, headers | ({"CC": copies} if copies else {})),
    names,
    routing_keys,
    st.sampled_from([{}, {"n": 1}, {"n": True}]),
    st.lists(routing_keys, max_size=2),
)


class TestChange:
    @given(st.lists(exchanges, min_size=3, max_size=3, unique_by=lambda x: x.name), changes, messages)
    def test_a_changed_table_routes_like_a_fresh_one(
        self, declared: list[Exchange], steps: list[tuple[str, Binding]], message: Message
    ) -> None:
        routes = Router.of(Topology(declared, [Queue("q"), Queue("r")]))
        for step, binding in steps:
            if step == "bind":
                routes.bind(binding)
            elif step == "unbind":
                routes.unbind(binding)
            else:
                routes.route(message)
        fresh = Router.of(routes.topology())
        assert set(routes.route(message)) == set(fresh.route(message))
        trace = routes.trace(message)
        assert set(trace.queues) == set(routes.route(message))
        for visit in trace.visits():
            keys = [message.routing_key, *message.headers.get("CC", ())]
            found = set() if visit.note else set(routes.matched_at(visit.exchange, keys, message.headers))
            assert {attempt.binding for attempt in visit.matched} == found

    def test_binding_twice_is_binding_once(self) -> None:
        routes = router([Exchange("d")], [], Queue("q"))
        assert routes.bind(Binding("d", "q", "k"))
        assert not routes.bind(Binding("d", "q", "k"))
        assert routes.is_in_use("d")
        routes.unbind(Binding("d", "q", "k"))
        routes.unbind(Binding("d", "q", "k"))
        assert not routes.is_in_use("d")
        assert routes.route(Message("d", "k")) == ()

    def test_a_queue_takes_its_bindings_with_it(self) -> None:
        routes = router([Exchange("d"), Exchange("h", "headers")], [Binding("d", "q", "k"), Binding("h", "q")])
        routes.delete_queue("q")
        assert routes.bindings == ()
        assert routes.bindings_to("q") == ()
        routes.declare_queue(Queue("q"))
        assert routes.route(Message("d", "k")) == ()

    def test_auto_delete_exchanges_go_with_their_last_binding(self) -> None:
        exchanges = [Exchange(name, "fanout", auto_delete=True) for name in "abc"]
        routes = router(exchanges, [link("a", "b"), link("b", "c"), Binding("c", "q")])
        assert routes.delete_queue("q") == ("c", "b", "a")
        assert not set("abc") & set(routes.exchanges)

    def test_deleting_an_exchange(self) -> None:
        routes = router([Exchange("d"), Exchange("e")], [Binding("d", "q", "k"), link("e", "d")])
        with pytest.raises(TopologyError, match=r"exchange 'd' in vhost '/' in use"):
            routes.delete_exchange("d", if_unused=True)
        routes.delete_exchange("d")
        assert routes.bindings == ()
        routes.delete_exchange("d")
        for name in ("", "amq.topic"):
            with pytest.raises(TopologyError):
                routes.delete_exchange(name)

    def test_reserved_names(self) -> None:
        with pytest.raises(TopologyError, match=r"queue name 'amq\.mine' contains reserved prefix"):
            Router().declare_queue(Queue("amq.mine"))
        assert Router().declare_queue(Queue("amq.gen-1"), is_restored=True)


class TestTrace:
    def test_the_tree_says_why(self) -> None:
        routes = router(
            [Exchange("news", "topic"), alternate("d", "direct", "lost"), Exchange("lost", "fanout")],
            [Binding("news", "nba", "usa.*"), link("news", "d", "#"), Binding("lost", "spare")],
        )
        trace = routes.trace(Message("news", "usa.news.nba"))
        assert trace.queues == ("spare",)
        first, second, third = trace.visits()
        reasons = [(attempt.is_match, attempt.reason) for attempt in first.attempts]
        assert reasons == [
            (False, "third word is `nba`, the binding ends after two words"),
            (True, "`#` takes every key"),
        ]
        assert (second.exchange, second.reached_by) == ("d", "bound from news with `#`")
        assert (third.exchange, third.reached_by) == ("lost", "alternate exchange of d")
        assert json.loads(json.dumps(trace.to_json()))["queues"] == ["spare"]

    def test_the_default_exchange(self) -> None:
        trace = router([], [], Queue("q")).trace(Message("", "p"))
        assert trace.is_unroutable
        assert trace.root.attempts[0].reason == "no queue is named `p`"

    def test_a_trace_stays_true_to_its_moment(self) -> None:
        routes = router([Exchange("d")], [Binding("d", "q", "k")])
        trace = routes.trace(Message("d", "k"))
        routes.unbind(Binding("d", "q", "k"))
        assert [attempt.is_match for attempt in trace.root.attempts] == [True]

    def test_chance_is_admitted(self) -> None:
        routes = router([Exchange("dice", "x-random")], [Binding("dice", "a"), Binding("dice", "b")])
        trace = routes.trace(Message("dice"))
        assert not trace.is_certain
        assert trace.queues == ("a", "b")

    def test_a_long_chain_has_a_flat_trace(self) -> None:
        chain = [Exchange(f"x{number}", "fanout") for number in range(2000)]
        links = [link(f"x{number}", f"x{number + 1}") for number in range(1999)]
        trace = router(chain, [*links, Binding("x1999", "q")]).trace(Message("x0"))
        assert len(json.loads(json.dumps(trace.to_json()))["trace"]) == 2000


def dying(name: str, exchange: str = "dlx", **arguments: Any) -> Queue:
    named = {key.replace("_", "-"): value for key, value in arguments.items()}
    return Queue(name, arguments={"x-dead-letter-exchange": exchange, **named})


class TestDeadLetters:
    def test_with_its_own_keys_or_the_queues(self) -> None:
        queues = dying("own"), dying("other", x_dead_letter_routing_key="b")
        routes = router([Exchange("dlx")], [Binding("dlx", name, name) for name in "abc"], *queues)
        message = Message("", "a", {"CC": ["c"]}, expiration="5")
        assert set(routes.dead_letters("own", message, "rejected").queues) == {"a", "c"}
        assert routes.dead_letters("other", message, "rejected").queues == ("b",)

    @pytest.mark.parametrize(
        ("queue", "reason", "note"),
        [
            (Queue("q"), "rejected", "the queue has no dead-letter exchange: the message is lost"),
            (dying("q", "none"), "expired",
             "the dead-letter exchange 'none' does not exist: the message is lost"),
            (dying("q"), "expired",
             "no binding of the dead-letter exchange 'dlx' takes it: the message is lost"),
            (dying("q", x_overflow="reject-publish"), "maxlen",
             "the full queue refuses the new message (overflow: reject-publish), a nack to its publisher"),
            (dying("q"), "delivery_limit", "a classic queue has no delivery limit"),
            (Queue("q", arguments={"x-queue-type": "stream"}), "rejected", "a stream dead-letters nothing"),
            (dying("q", ""), "expired", "a cycle without a rejection in it: the message is dropped"),
        ],
    )  # fmt: skip
    def test_lost_and_why(self, queue: Queue, reason: Reason, note: str) -> None:
        letter = router([Exchange("dlx")], [], queue).dead_letters("q", Message("", "q"), reason)
        assert letter.is_lost
        assert letter.note == note

    def test_a_retry_through_a_waiting_queue(self) -> None:
        work = dying("work", "", x_dead_letter_routing_key="wait")
        wait = dying("wait", "", x_dead_letter_routing_key="work", x_message_ttl=1000)
        routes = router([], [], work, wait)
        letter = routes.dead_letters("work", Message("", "work"), "rejected")
        assert letter.queues == ("wait",)
        (back,) = letter.onward
        assert (back.reason, back.queues, back.cycles) == ("expired", ("work",), ())
        # Expired in both, never rejected: that circle is cut.
        again = routes.dead_letters("work", Message("", "work"), "expired")
        assert again.onward[0].cycles == ("work",)
        assert again.onward[0].is_lost

    def test_headers_of_a_death_are_seen_under_all_with_x(self) -> None:
        wanted = {"x-match": "all-with-x", "x-first-death-reason": "expired"}
        bindings = [
            Binding("dlx", "late", "", wanted),
            Binding("dlx", "bad", "", wanted | {"x-first-death-reason": "rejected"}),
        ]
        routes = router([Exchange("dlx", "headers")], bindings, dying("q"))
        assert routes.dead_letters("q", Message("", "q"), "expired").queues == ("late",)

    def test_a_death_that_happens_again_leaves_the_headers_of_the_first(self) -> None:
        routes = router([Exchange("dlx", "fanout")], [Binding("dlx", "q")], dying("q"))
        once = routes.dead_letters("q", Message("news", "q"), "rejected")
        assert once.message is not None
        again = routes.dead_letters("q", once.message, "rejected", once.deaths)
        assert again.message is not None
        headers = again.message.headers
        assert (headers["x-first-death-exchange"], headers["x-last-death-exchange"]) == ("news", "dlx")

    @pytest.mark.parametrize(
        ("target", "deaths", "expected"),
        [
            ("q", [("q", "expired")], True),
            ("q", [("q", "rejected")], False),
            ("q", [("r", "expired"), ("q", "maxlen")], True),
            ("q", [("r", "rejected"), ("q", "maxlen")], False),
            ("q", [("r", "expired"), ("q", "maxlen"), ("s", "rejected")], True),
            ("q", [("r", "expired")], False),
        ],
    )
    def test_the_cycle_rule(self, target: str, deaths: Deaths, expected: bool) -> None:
        assert is_cycle(target, deaths) is expected

    def test_an_unknown_queue(self) -> None:
        with pytest.raises(UnknownName, match=r"no queue 'wrok'; did you mean 'work'\?"):
            router([], [], Queue("work")).dead_letters("wrok", Message("", ""), "expired")
