//! The two things librdkafka knows and rdkafka's safe interface does not tell.

use std::ffi::CString;

use rdkafka::bindings;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::message::BorrowedMessage;

/// The leader epoch a record was written in; `None` for brokers that do not tell.
#[expect(unsafe_code, reason = "rdkafka has no safe accessor; the pointer is the borrowed message's own")]
pub(super) fn leader_epoch(message: &BorrowedMessage<'_>) -> Option<i32> {
    // SAFETY: `ptr` is valid for as long as the borrow, and the function only reads the message.
    let epoch = unsafe { bindings::rd_kafka_message_leader_epoch(message.ptr()) };
    (epoch >= 0).then_some(epoch)
}

/// End of a partition as of its last fetch, without asking the broker.
#[expect(unsafe_code, reason = "rdkafka has no safe accessor for the cached watermarks")]
pub(super) fn cached_end<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
) -> Option<i64> {
    let topic = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1i64, -1i64);
    // SAFETY: the client outlives the call, the name is NUL-terminated and both results point to locals.
    let code = unsafe {
        bindings::rd_kafka_get_watermark_offsets(
            consumer.client().native_ptr(),
            topic.as_ptr(),
            partition,
            &raw mut low,
            &raw mut high,
        )
    };
    (code == bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
}
