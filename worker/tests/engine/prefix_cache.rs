//! What the prefix cache saves.

use longhand_worker::engine::Engine;

use crate::invariance::engine;
use crate::tasks::{document, read, task};

/// Prompts of one document share a growing beginning, the step to write stands last.
#[tokio::test]
async fn a_document_of_ten_sections_reuses_its_prompts() {
    let engine = engine(1024, 512);
    let mut text = "Instruction: write about the harbour of a small town. Plan: ten paragraphs.\n".repeat(3);
    let (mut cached, mut reusable) = (0, 0);
    for section in 0..10 {
        let mut task = task(1, &format!("{text}\nNow write paragraph {section}."));
        (task.document, task.section, task.max_tokens) = (document(1), section, 150);
        let seen = read(engine.start(task, None)).await;
        let output = seen.output();
        text.push_str(&format!("{} {section}\n", output.text).repeat(4));
        cached += output.usage.cached;
        reusable += output.usage.reusable;
        assert!(output.usage.cached <= output.usage.reusable);
    }
    assert!(reusable > 1000, "{reusable} tokens could be reused");
    assert!(cached * 10 >= reusable * 9, "{cached} of {reusable} tokens were reused");
    let stats = engine.stats();
    assert_eq!((stats.cached_tokens, stats.reusable_tokens), (u64::from(cached), u64::from(reusable)));
}

/// A document's next section finds its prompt in the cache although other documents were decoded in the meantime.
#[tokio::test]
async fn other_documents_do_not_evict_a_prompt_from_a_pool_that_holds_them_all() {
    let engine = engine(256, 512);
    for round in 0..3 {
        for n in 0..8 {
            let (all, own) = ("Write on without an end. ".repeat(4), format!("Document {n}. ").repeat(20));
            let mut task = task(n, &format!("{all}{own}{}", "More. ".repeat(round)));
            task.document = document(n);
            let seen = read(engine.start(task, None)).await;
            let usage = seen.output().usage;
            assert!(usage.cached <= usage.reusable, "only computed tokens are cached: {usage:?}");
            assert!((usage.cached > 0) == (round > 0 || n > 0), "all begin alike: {usage:?}");
            assert!(round == 0 || usage.cached * 10 >= usage.reusable * 9, "{usage:?}");
        }
    }
}
