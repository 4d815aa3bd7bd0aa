//! Texts to draw on: where they stand in the prompts, and what a section remembers of them.

use super::*;

fn with_context() -> Document {
    let text = |what: &str| format!("{what} stands in the old records of the town. ").repeat(60);
    let mut document = planned(2);
    document.instruction.context = [("fish", "herring"), ("light", "lighthouse"), ("law", "court")]
        .map(|(id, what)| Context { id: id.into(), text: text(what) })
        .to_vec();
    let Progress::Writing { plan, .. } = &mut document.progress else { panic!() };
    plan.steps[0].main_point = "how the lighthouse was built".into();
    plan.steps[1].main_point = "a case before the court".into();
    document
}

#[test]
fn each_step_gets_the_text_nearest_to_it_after_what_is_written_and_the_section_names_it() {
    let mut recipe = Recipe { filters: lenient(), ..plain() };
    recipe.context.max_tokens = 600;
    let mut document = with_context();
    for (step, (id, what, other)) in
        [("light", "lighthouse stands", "herring stands"), ("law", "court stands", "lighthouse stands")]
            .into_iter()
            .enumerate()
    {
        let task = document.next_task(&recipe).unwrap().unwrap();
        let prompt = &task.messages[0].content;
        let at = prompt.find(what).unwrap();
        assert!(!prompt.contains(other), "over the budget");
        assert!(at > prompt.find("The text so far").unwrap(), "behind what the prompts share");
        let _applied = document.apply(&recipe, good(&prose(step as u64)));
        assert_eq!(document.sections()[step].context, [id]);
    }
}

#[test]
fn where_all_fit_every_prompt_begins_with_all_of_them() {
    let recipe = Recipe { filters: lenient(), ..plain() };
    let mut document = with_context();
    let task = document.next_task(&recipe).unwrap().unwrap();
    assert!(
        task.messages[0].content.find("court stands").unwrap() < task.messages[0].content.find("The plan").unwrap()
    );
    assert_eq!(document.apply(&recipe, good(&prose(1))), Transition::NextTask);
    assert_eq!(document.sections()[0].context, ["fish", "light", "law"]);
    let mut none = recipe.clone();
    none.context.max_tokens = 0;
    let task = document.next_task(&none).unwrap().unwrap();
    assert!(!task.messages[0].content.contains("stands in the old records"));
}
