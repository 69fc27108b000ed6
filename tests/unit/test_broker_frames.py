"""Frames: literal bytes, cut at every offset, and the three outcomes kept apart."""

from __future__ import annotations

import pytest

from waybill.broker.frames import (
    BODY,
    HEARTBEAT,
    HEARTBEAT_FRAME,
    METHOD,
    FrameReader,
    content_frames,
    erlang_binary,
    frame,
)

QOS = bytes.fromhex("01 0001 0000000b 003c000a 00000000 0003 00 ce")
BODY_FRAME = bytes.fromhex("03 0001 00000002 6869 ce")
STREAM = QOS + HEARTBEAT_FRAME + BODY_FRAME
FRAMES = [
    (METHOD, 1, bytes.fromhex("003c000a00000000000300")),
    (HEARTBEAT, 0, b""),
    (BODY, 1, b"hi"),
]


def test_reads_literal_bytes() -> None:
    assert FrameReader().feed(STREAM) == FRAMES


def test_writes_literal_bytes() -> None:
    assert frame(METHOD, 1, FRAMES[0][2]) == QOS
    assert frame(HEARTBEAT, 0, b"") == HEARTBEAT_FRAME


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_a_stream_may_be_cut_anywhere(cut: int) -> None:
    reader = FrameReader()
    assert reader.feed(STREAM[:cut]) + reader.feed(STREAM[cut:]) == FRAMES
    assert reader.failure is None


def test_a_stream_may_come_byte_by_byte() -> None:
    reader = FrameReader()
    assert [one for octet in STREAM for one in reader.feed(bytes((octet,)))] == FRAMES


def test_frames_before_a_bad_one_are_given() -> None:
    reader = FrameReader()
    assert reader.feed(QOS + b"\x01\x00\x00\x00\x00\x00\x02ab\x00" + QOS) == FRAMES[:1]
    assert reader.failure is not None
    assert reader.failure.reply_code == 501
    assert reader.failure.text == 'type 1, all octets = <<"ab">>: {invalid_frame_end_marker,0}'
    assert reader.feed(QOS) == []


def test_a_frame_above_the_limit_fails_with_its_head_alone() -> None:
    reader = FrameReader(131072)
    assert reader.feed(bytes.fromhex("01 0000 00030d40")) == []
    assert reader.failure is not None
    assert reader.failure.text == "type 1, all octets = <<>>: {frame_too_large,200000,131064}"


@pytest.mark.parametrize(("size", "is_taken"), [(131064, True), (131072, True), (131073, False)])
def test_eight_bytes_more_than_the_limit_are_forgiven(size: int, is_taken: bool) -> None:
    reader = FrameReader(131072)
    reader.feed(b"\x03\x00\x01" + size.to_bytes(4, "big"))
    assert (reader.failure is None) is is_taken


def test_content_is_cut_to_the_peers_frame_size() -> None:
    header = bytes.fromhex("003c0000 0000000000000005 0000")
    head = bytes.fromhex("02 0007 0000000e") + header + b"\xce"
    assert content_frames(7, header, b"", 2) == head
    assert content_frames(7, header, b"abcde", 5) == head + frame(BODY, 7, b"abcde")
    pieces = frame(BODY, 7, b"ab") + frame(BODY, 7, b"cd") + frame(BODY, 7, b"e")
    assert content_frames(7, header, b"abcde", 2) == head + pieces


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"", "<<>>"),
        (b"ab", '<<"ab">>'),
        (b"\x00\x14\x00\x0a\x00", "<<0,20,0,10,0>>"),
        (b'a"b\\\n', '<<"a\\"b\\\\\\n">>'),
    ],
)
def test_payloads_are_shown_as_erlang_shows_them(data: bytes, shown: str) -> None:
    assert erlang_binary(data) == shown
