//! Client messages.

use kingsguard_protocol::client::*;
use kingsguard_protocol::control::UsagePeriod;
use kingsguard_protocol::{ClientBody, ClientMessage, Epoch, ThreadId};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Named, filled, id, raw_list, raw_object};

fn resume_point() -> impl Strategy<Value = ResumePoint> {
    (id::<Epoch>(), 0..=i64::MAX.unsigned_abs()).prop_map(|(epoch, after)| ResumePoint { epoch, after })
}

fn thread_resume() -> impl Strategy<Value = Vec<ThreadResume>> {
    proptest::collection::hash_map(id::<ThreadId>(), resume_point(), 0..4).prop_map(|resume| {
        let entry = |(thread_id, point)| ThreadResume { thread_id, point };
        resume.into_iter().map(entry).collect()
    })
}

pub fn client_messages() -> Vec<Named<ClientMessage>> {
    let limit = || option::of(1_u32..=100);
    let bodies: Vec<BoxedStrategy<ClientBody>> = vec![
        thread_resume()
            .prop_map(|resume| HandshakeAcknowledged { resume })
            .prop_map_into()
            .boxed(),
        (filled(), option::of(raw_list()), option::of(raw_object()))
            .prop_map(|(content, references, metadata)| UserMessage {
                content,
                references,
                metadata,
            })
            .prop_map_into()
            .boxed(),
        (filled(), filled(), option::of(raw_object()))
            .prop_map(|(agent_name, user_request, context)| StartAgent {
                agent_name,
                user_request,
                context,
            })
            .prop_map_into()
            .boxed(),
        (id(), option::of(filled()))
            .prop_map(|(run_id, reason)| StopAgent { run_id, reason })
            .prop_map_into()
            .boxed(),
        option::of(id())
            .prop_map(|run_id| AgentStatusRequest { run_id })
            .prop_map_into()
            .boxed(),
        (
            id(),
            select(&[ConfirmationStatus::Confirmed, ConfirmationStatus::Failed][..]),
        )
            .prop_map(|(event_id, status)| Confirmation { event_id, status })
            .prop_map_into()
            .boxed(),
        (option::of(filled()), option::of(raw_object()))
            .prop_map(|(title, metadata)| CreateThread { title, metadata })
            .prop_map_into()
            .boxed(),
        (limit(), option::of(filled()))
            .prop_map(|(limit, cursor)| ListThreads { limit, cursor })
            .prop_map_into()
            .boxed(),
        option::of(resume_point())
            .prop_map(|resume| SwitchThread { resume })
            .prop_map_into()
            .boxed(),
        filled()
            .prop_map(|title| RenameThread { title })
            .prop_map_into()
            .boxed(),
        Just(DeleteThread {}.into()).boxed(),
        (limit(), option::of(0..=i64::MAX.unsigned_abs()))
            .prop_map(|(limit, before)| GetThreadHistory { limit, before })
            .prop_map_into()
            .boxed(),
        Just(GetAgentContext {}.into()).boxed(),
        Just(Ping {}.into()).boxed(),
        Just(ClientPong {}.into()).boxed(),
        Just(Heartbeat {}.into()).boxed(),
        Just(HeartbeatAck {}.into()).boxed(),
        filled()
            .prop_map(|token| Auth { token: token.into() })
            .prop_map_into()
            .boxed(),
        Just(TypingStarted {}.into()).boxed(),
        Just(TypingStopped {}.into()).boxed(),
        filled()
            .prop_map(|content| Broadcast { content })
            .prop_map_into()
            .boxed(),
        (filled(), filled())
            .prop_map(|(content, category)| ExampleMessage { content, category })
            .prop_map_into()
            .boxed(),
        id().prop_map(|run_id| GetQualityMetrics { run_id })
            .prop_map_into()
            .boxed(),
        (filled(), filled())
            .prop_map(|(content, content_type)| ValidateContent { content, content_type })
            .prop_map_into()
            .boxed(),
        option::of(select(UsagePeriod::ALL.to_vec()))
            .prop_map(|period| GetUsage { period })
            .prop_map_into()
            .boxed(),
        vec(raw_object(), 1..5)
            .prop_map(|messages| Batch { messages })
            .prop_map_into()
            .boxed(),
        option::of(filled())
            .prop_map(|reason| Disconnect { reason })
            .prop_map_into()
            .boxed(),
    ];
    ClientType::ALL
        .iter()
        .zip(bodies)
        .map(|(client_type, body)| {
            // Where the envelope must name a thread, it does.
            let names_thread = matches!(
                client_type,
                ClientType::SwitchThread | ClientType::RenameThread | ClientType::DeleteThread
            );
            let thread_id = if names_thread {
                id().prop_map(Some).boxed()
            } else {
                option::of(id()).boxed()
            };
            let message = (option::of(id()), thread_id, body).prop_map(|(message_id, thread_id, body)| ClientMessage {
                message_id,
                thread_id,
                body,
            });
            (client_type.names()[0], message.boxed())
        })
        .collect()
}
