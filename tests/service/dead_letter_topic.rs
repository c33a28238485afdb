//! Dead letters that the topic does not take.

use devkit::{kafka::Record, smtp::SmtpServer};
use postlane::event::Priority;

use crate::bed::{Bed, end};

#[tokio::test]
async fn what_is_too_large_for_the_topic_leaves_a_stub() {
    let shared = devkit::kafka::shared().await.expect("a broker");
    let bed = Bed::bare(shared, SmtpServer::builder()).await;
    for topic in bed.names.lanes() {
        shared.create_topic(topic, 1, &[]).await.expect("a topic");
    }
    shared.create_topic(&bed.names.dead_letters, 1, &[("max.message.bytes", "10000")]).await.expect("a topic");
    // letters are compressed on their way, so it has to be noise
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + u8::try_from(state >> 57).expect("seven bits") % 90)
    });
    let noise: String = noise.take(50_000).collect();
    bed.publish_records(Priority::Low, [Record::new(noise.clone()).key("order-7").header("trace", "t-1")]).await;
    bed.publish_records(Priority::Low, [Record::new("small rubbish")]).await;
    let mut service = bed.start();
    bed.wait_for_no_lag(&mut service).await;
    let letters = bed.dead_letters_now().await;
    assert_eq!(letters.len(), 2);
    let stub = letters.iter().find(|letter| letter.value.is_none()).expect("a stub");
    assert_eq!(stub.key.as_deref(), Some(&b"order-7"[..]));
    assert_eq!(stub.header_text("trace").as_deref(), Some("t-1"));
    assert_eq!(stub.header_text("postlane-reason").as_deref(), Some("malformed"));
    let size: usize = stub.header_text("postlane-original-size").expect("the size").parse().expect("a number");
    assert!(size >= noise.len(), "{size}");
    let whole = letters.iter().find(|letter| letter.value.is_some()).expect("the small one");
    assert_eq!(whole.text(), "small rubbish");
    assert_eq!(whole.header_text("postlane-original-size"), None);
    end(service).await;
}
