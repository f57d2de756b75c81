//! Two nodes that were given one name.

use crate::support::{World, eventually, on_cluster};

on_cluster!(a_second_node_with_the_same_name_takes_another_and_both_are_reported);

const TWIN: [(&str, &str); 1] = [("HADIR_NODE_ID", "twin")];

async fn a_second_node_with_the_same_name_takes_another_and_both_are_reported(world: World) {
    let (first, second) = (world.node_with(&TWIN).await, world.node_with(&TWIN).await);
    for node in [&first, &second] {
        let names = eventually("both are reported", async || {
            let nodes = node.presence().nodes().nodes;
            let names: Vec<String> = nodes.iter().map(|node| node.node_id.to_string()).collect();
            (names.len() == 2).then_some(names)
        })
        .await;
        assert!(names.contains(&"twin".to_owned()), "{names:?}");
        assert!(names.iter().any(|name| name.starts_with("twin-")), "{names:?}");
    }
    first.stop().await;
    // The name is free again, for a node that was restarted.
    let third = world.node_with(&TWIN).await;
    let own = third.presence().nodes().nodes.into_iter().map(|node| node.node_id.to_string());
    assert!(own.into_iter().any(|name| name == "twin"));
    second.stop().await;
    third.stop().await;
}
