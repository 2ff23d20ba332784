//! A simulated user: an account of his own, his credentials, his connections.

use std::fmt;
use std::io;
use std::sync::{Arc, RwLock};

use anyhow::Context as _;
use kingsguard_protocol::http::{
    Secret, TicketRequest, TicketResponse, TokenResponse, TokenType, UsageRecordsResponse,
};
use kingsguard_protocol::{ErrorCode, ThreadId, UserId};
use serde_json::json;

use crate::chat::Chat;
use crate::connect::ConnectOptions;
use crate::http::{Answer, Http};
use crate::link::Refused;
use crate::recording::UserFacts;
use crate::sample::SampleRecords;
use crate::session::Session;
use crate::steady::{SteadyChat, SteadyOptions};
use crate::target::users::{Identity, Users};

/// A user of the target. Cheap to clone: the clones are the same user.
#[derive(Clone)]
pub struct SimulatedUser {
    session: Session,
    index: usize,
    label: String,
    email: String,
    password: String,
    canary: String,
    tokens: Arc<RwLock<TokenResponse>>,
}

impl fmt::Debug for SimulatedUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <{}>", self.label, self.email)
    }
}

impl SimulatedUser {
    /// A user as the target's profile says that one comes about; an account of his own where it has registration.
    ///
    /// # Panics
    /// The target refuses, or the profile's means fail.
    pub(crate) async fn of_target(session: Session, label: &str) -> Self {
        let profile = session.profile().clone();
        if profile.users.is_contracts_own() {
            return Self::register(session, label).await;
        }
        let unique = uuid::Uuid::now_v7().simple().to_string();
        let email = format!("{label}.{unique}@example.test");
        let password = format!("correct horse {unique}");
        let canary = format!("canary{}", &unique[12..]);
        let made = match &profile.users {
            Users::Register(register) => {
                session.capture().add_secret(&password);
                let http = session.http();
                let call = http.request_unasked(reqwest::Method::POST, &register.path);
                let answer = http.send(call.json(&register.body(&email, &password, label))).await;
                assert!((200..300).contains(&answer.status()), "registering {label}: {answer:?}");
                register.identity(&answer.json())
            }
            Users::Tokens(tokens) => {
                let mut lease = session.lease().lock().await;
                if lease.is_none() {
                    *lease = match tokens.lease().await {
                        Ok(taken) => Some(taken),
                        Err(error) => panic!("taking the listed users: {error:#}"),
                    };
                }
                match lease.as_mut().and_then(crate::target::users::Lease::take) {
                    Some(identity) => Ok(identity),
                    None => session
                        .capture()
                        .lacks(format!("{} lists too few users for this test", profile.name)),
                }
            }
            Users::Command(command) => command.identity(&format!("{label}-{unique}")).await,
        };
        match made {
            Ok(identity) => Self::of_identity(session, label, email, password, canary, identity),
            Err(error) => panic!("getting the user {label}: {error:#}"),
        }
    }

    fn of_identity(
        session: Session,
        label: &str,
        email: String,
        password: String,
        canary: String,
        identity: Identity,
    ) -> Self {
        let tokens = TokenResponse {
            user_id: UserId::from(identity.user_id.unwrap_or_default()),
            email: email.clone(),
            access_token: Secret::from(identity.access_token),
            refresh_token: Secret::from(identity.refresh_token.unwrap_or_default()),
            token_type: TokenType::Bearer,
            expires_in_ms: 0,
        };
        Self::with_tokens(session, label, email, password, canary, tokens)
    }

    /// Registers an account with an address that no other test uses.
    ///
    /// # Panics
    /// The target refuses.
    async fn register(session: Session, label: &str) -> Self {
        let unique = uuid::Uuid::now_v7().simple().to_string();
        let email = format!("{label}.{unique}@example.test");
        let password = format!("correct horse {unique}");
        let canary = format!("canary{}", &unique[12..]);
        session.capture().add_secret(&password);
        let body = json!({ "email": email, "password": password, "name": label });
        let tokens: TokenResponse = session
            .http()
            .post("/auth/register", &body)
            .await
            .expect_status(201)
            .parse();
        Self::with_tokens(session, label, email, password, canary, tokens)
    }

    /// Logs in without an account of his own making, where the target allows that (`POST /auth/dev_login`).
    ///
    /// # Panics
    /// The target refuses.
    pub(crate) async fn dev_login(session: Session, label: &str) -> Self {
        let unique = uuid::Uuid::now_v7().simple().to_string();
        let email = format!("{label}.{unique}@example.test");
        let password = format!("correct horse {unique}");
        let canary = format!("canary{}", &unique[12..]);
        let body = json!({ "email": email, "password": password });
        let tokens: TokenResponse = session
            .http()
            .post("/auth/dev_login", &body)
            .await
            .expect_status(200)
            .parse();
        Self::with_tokens(session, label, email, password, canary, tokens)
    }

    fn with_tokens(
        session: Session,
        label: &str,
        email: String,
        password: String,
        canary: String,
        tokens: TokenResponse,
    ) -> Self {
        remember(&session, &tokens);
        let index = session.capture().add_user(UserFacts {
            label: label.to_owned(),
            user_id: Some(tokens.user_id.to_string()).filter(|user_id| !user_id.is_empty()),
            email: email.clone(),
            canaries: vec![canary.clone()],
        });
        Self {
            session,
            index,
            label: label.to_owned(),
            email,
            password,
            canary,
            tokens: Arc::new(RwLock::new(tokens)),
        }
    }

    /// What the test calls him.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// His account; where nothing tells it, the test is not judged.
    #[must_use]
    pub fn user_id(&self) -> UserId {
        let user_id = self.tokens().user_id;
        if user_id.as_str().is_empty() {
            let name = &self.session.profile().name;
            let why = format!("{name} does not tell the ids of its users, see `users` in the profile");
            self.session.capture().lacks(why);
        }
        user_id
    }

    /// His address.
    #[must_use]
    pub fn email(&self) -> &str {
        &self.email
    }

    /// His password.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// A text that only he knows. Say it, and the validators see to it that nobody else ever receives it (ISO-1).
    #[must_use]
    pub fn canary(&self) -> &str {
        &self.canary
    }

    /// His present tokens.
    #[must_use]
    pub fn tokens(&self) -> TokenResponse {
        self.tokens
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// His present access token.
    #[must_use]
    pub fn access_token(&self) -> String {
        self.tokens().access_token.reveal().to_owned()
    }

    fn take_tokens(&self, tokens: TokenResponse) {
        remember(&self.session, &tokens);
        *self.tokens.write().unwrap_or_else(std::sync::PoisonError::into_inner) = tokens;
    }

    /// The REST side with his access token.
    #[must_use]
    pub fn http(&self) -> Http {
        self.session.http().with_bearer(&self.access_token())
    }

    // ---- credentials ------------------------------------------------------------------------------------------------

    /// Logs in with a password of choice; the answer as it is. Use [`SimulatedUser::login`] for the right one.
    pub async fn try_login(&self, password: &str) -> Answer {
        let body = json!({ "email": self.email, "password": password });
        self.session.http().post("/auth/login", &body).await
    }

    /// Logs in; the new tokens become his present ones.
    ///
    /// # Panics
    /// The target refuses.
    pub async fn login(&self) -> TokenResponse {
        let tokens: TokenResponse = self.try_login(&self.password).await.expect_status(200).parse();
        self.take_tokens(tokens.clone());
        tokens
    }

    /// Refreshes with a refresh token of choice; the answer as it is.
    pub async fn try_refresh(&self, refresh_token: &str) -> Answer {
        self.session
            .http()
            .post("/auth/refresh", &json!({ "refresh_token": refresh_token }))
            .await
    }

    /// Refreshes; the new tokens become his present ones.
    ///
    /// # Panics
    /// The target refuses.
    pub async fn refresh(&self) -> TokenResponse {
        let answer = self.try_refresh(self.tokens().refresh_token.reveal()).await;
        let tokens: TokenResponse = answer.expect_status(200).parse();
        self.take_tokens(tokens.clone());
        tokens
    }

    /// Logs out: the present token and its family are revoked.
    ///
    /// # Panics
    /// The target refuses.
    pub async fn logout(&self) {
        let _ended = self.http().post("/auth/logout", &json!({})).await.expect_status(200);
    }

    /// Gets a ticket with the target's defaults.
    ///
    /// # Panics
    /// The target refuses.
    pub async fn ticket(&self) -> TicketResponse {
        self.ticket_with(TicketRequest::default()).await
    }

    /// Gets a ticket.
    ///
    /// # Panics
    /// The target refuses.
    pub async fn ticket_with(&self, request: TicketRequest) -> TicketResponse {
        let ticket: TicketResponse = self
            .http()
            .post("/api/websocket/ticket", &request)
            .await
            .expect_status(201)
            .parse();
        self.session.capture().add_secret(ticket.ticket.reveal());
        ticket
    }

    // ---- data -------------------------------------------------------------------------------------------------------

    /// Uploads usage records as JSON.
    ///
    /// # Panics
    /// The target refuses, or stores another number of rows.
    pub async fn upload(&self, records: &SampleRecords) {
        let answer = self
            .http()
            .post("/api/usage-records", &json!({ "records": records.rows() }))
            .await;
        self.expect_stored(answer, records);
    }

    /// Uploads usage records as CSV.
    ///
    /// # Panics
    /// The target refuses, or stores another number of rows.
    pub async fn upload_csv(&self, records: &SampleRecords) {
        let answer = self
            .http()
            .post_as("/api/usage-records", "text/csv", records.to_csv())
            .await;
        self.expect_stored(answer, records);
    }

    fn expect_stored(&self, answer: Answer, records: &SampleRecords) {
        let stored: UsageRecordsResponse = answer.expect_status(201).parse();
        assert_eq!(stored.stored, records.rows().len() as u64, "stored rows");
    }

    /// Creates a thread over REST.
    ///
    /// # Panics
    /// The target refuses.
    pub async fn create_thread(&self, title: &str) -> ThreadId {
        let answer = self
            .http()
            .post("/api/threads", &json!({ "title": title }))
            .await
            .expect_status(201);
        match answer.json().get("thread_id").and_then(serde_json::Value::as_str) {
            Some(thread_id) => ThreadId::from(thread_id),
            None => panic!("expected a thread_id, but {answer:?}"),
        }
    }

    // ---- connections ------------------------------------------------------------------------------------------------

    /// The usual way to connect: as the target's profile says, his access token as sub-protocol `jwt.T` where there is none.
    #[must_use]
    pub fn options(&self) -> ConnectOptions {
        self.options_with(&self.access_token())
    }

    /// The usual way to connect, with a token of choice in the place of his own.
    #[must_use]
    pub fn options_with(&self, token: &str) -> ConnectOptions {
        self.session.profile().options(token)
    }

    /// Connects in the usual way and does the whole handshake, where the target has one.
    ///
    /// # Panics
    /// The target refuses, or the handshake does not come about.
    pub async fn connect(&self) -> Chat {
        self.connect_with(self.options()).await
    }

    /// Connects in a way of choice and does the whole handshake, where the target has one.
    ///
    /// # Panics
    /// The target refuses, or the handshake does not come about.
    pub async fn connect_with(&self, options: ConnectOptions) -> Chat {
        let mut chat = self.open_with(options).await;
        if self.session.profile().lacks.handshake.is_none() {
            chat.handshake().await;
        }
        chat
    }

    /// Connects in the usual way and leaves the handshake to the test.
    ///
    /// # Panics
    /// The target refuses.
    pub async fn open(&self) -> Chat {
        self.open_with(self.options()).await
    }

    /// Connects in a way of choice and leaves the handshake to the test.
    ///
    /// # Panics
    /// The target refuses.
    pub async fn open_with(&self, options: ConnectOptions) -> Chat {
        match self.try_open(options).await {
            Ok(chat) => chat,
            Err(refused) => panic!(
                "upgrade of {self:?} is refused with {}: {}",
                refused.status,
                String::from_utf8_lossy(&refused.body)
            ),
        }
    }

    /// Connects in a way of choice, or says how the target refused.
    ///
    /// # Errors
    /// The target refused.
    pub async fn try_open(&self, options: ConnectOptions) -> Result<Chat, Refused> {
        let link = self.session.upgrade(Some(self.index), options).await?;
        Ok(Chat::new(self.session.clone(), link))
    }

    /// The same, for a node that may be away.
    ///
    /// # Errors
    /// It cannot be reached.
    pub(crate) async fn try_reach(&self, options: ConnectOptions) -> io::Result<Result<Chat, Refused>> {
        let opened = self.session.try_upgrade(Some(self.index), options).await?;
        Ok(opened.map(|link| Chat::new(self.session.clone(), link)))
    }

    /// Logs in at a node of choice, which may be away; the new tokens become his present ones.
    ///
    /// # Errors
    /// It cannot be reached, or refuses.
    pub(crate) async fn login_at(&self, base_url: &str) -> anyhow::Result<()> {
        let http = Http::new(base_url, self.session.capture().clone());
        let body = json!({ "email": self.email, "password": self.password });
        let login = http.request(reqwest::Method::POST, "/auth/login").json(&body);
        let answer = http.try_send(login).await.context("logging in")?;
        let tokens: TokenResponse = serde_json::from_str(&answer.text()).context("reading the tokens of a login")?;
        self.take_tokens(tokens);
        Ok(())
    }

    /// Stays connected by itself: reconnects, resumes every thread, drops repeats and sends again what has no outcome.
    ///
    /// # Panics
    /// The first connection does not come about.
    pub async fn stay_connected(&self, options: SteadyOptions) -> SteadyChat {
        self.session.needs_handshake();
        self.session.needs_acknowledgement();
        self.session.needs_event_header();
        SteadyChat::start(self.clone(), options).await
    }

    /// Claims that the target refuses a connection with this code: status and error body.
    ///
    /// # Panics
    /// It accepts, or refuses in another way.
    pub async fn refused(&self, options: ConnectOptions, code: ErrorCode) -> Refused {
        expect_refusal(self.try_open(options).await, code, &self.session)
    }

    /// Connects again and goes on with every thread of another connection after the newest event that it has.
    ///
    /// # Panics
    /// The target refuses, or the handshake does not come about.
    pub async fn resume(&self, earlier: &mut Chat) -> Chat {
        self.resume_with(self.options(), earlier).await
    }

    /// The same, in a way of choice.
    ///
    /// # Panics
    /// The target refuses, or the handshake does not come about.
    pub async fn resume_with(&self, options: ConnectOptions, earlier: &mut Chat) -> Chat {
        let points = earlier.resume_points();
        let thread_id = earlier.thread_id();
        let mut chat = self.open_with(options).await;
        chat.adopt_positions(&points);
        chat.handshake_with(Some(&thread_id), points).await;
        chat
    }
}

fn remember(session: &Session, tokens: &TokenResponse) {
    for token in [&tokens.access_token, &tokens.refresh_token] {
        if !token.reveal().is_empty() {
            session.capture().add_secret(token.reveal());
        }
    }
}

/// Claims that an upgrade was refused with this code.
///
/// # Panics
/// It was accepted, or refused in another way.
pub(crate) fn expect_refusal(result: Result<Chat, Refused>, code: ErrorCode, session: &Session) -> Refused {
    session.capture().count_check();
    let refused = match result {
        Ok(_) => panic!("expected a refusal with {code}, but the upgrade was accepted"),
        Err(refused) => refused,
    };
    let body: serde_json::Value = serde_json::from_slice(&refused.body).unwrap_or_default();
    let came = body.get("error_code").and_then(serde_json::Value::as_str);
    assert!(
        refused.status == code.http_status() && came == Some(code.as_str()),
        "expected {} {code}, but {} {}",
        code.http_status(),
        refused.status,
        String::from_utf8_lossy(&refused.body)
    );
    refused
}
