//! Who asks, and by what right. A handler that holds one of these extractors is allowed.
//!
//! The credentials are looked at once, before the route is chosen ([`authenticate`]); the extractors
//! only read what came of it. So they are the first to answer, whatever else is wrong with a
//! request, and a route without one is refused in any case: nothing else gives it a tenant.

use std::future::{Ready, ready};

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::AUTHORIZATION;
use actix_web::middleware::Next;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use domain::id::{ApiKeyId, CustomerId};
use domain::{Refusal, TenantScope};
use tenants::{Access, Principal, Scope, Tenants};

use crate::error::Error;

/// Finds out who asks and leaves the answer for the extractors.
pub(crate) async fn authenticate(
    tenants: web::Data<Tenants>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    if let Some(bearer) = bearer(request.request()) {
        match tenants.authenticate(bearer).await {
            Ok(principal) => request.extensions_mut().insert(principal).is_some(),
            Err(error) => request.extensions_mut().insert(error).is_some(),
        };
    }
    next.call(request).await
}

/// The credential of the one `Authorization` header. Nowhere else is looked for one.
fn bearer(request: &HttpRequest) -> Option<&str> {
    let mut headers = request.headers().get_all(AUTHORIZATION);
    let (Some(header), None) = (headers.next(), headers.next()) else { return None };
    let (scheme, credential) = header.to_str().ok()?.split_once(' ')?;
    let credential = credential.trim_start_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !credential.is_empty()).then_some(credential)
}

fn principal(request: &HttpRequest) -> Result<Principal, Error> {
    let mut extensions = request.extensions_mut();
    match extensions.get::<Principal>() {
        Some(principal) => Ok(principal.clone()),
        None => Err(extensions.remove::<db::Error>().unwrap_or(Refusal::Unauthenticated.into()).into()),
    }
}

macro_rules! rights {
    ($($(#[$doc:meta])* $name:ident: $check:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name(Principal);

        impl $name {
            pub(crate) fn scope(&self) -> &TenantScope {
                &self.0.scope
            }
        }

        impl FromRequest for $name {
            type Error = Error;
            type Future = Ready<Result<Self, Error>>;

            fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
                let check: fn(&Principal) -> Result<(), Refusal> = $check;
                ready(principal(request).and_then(|principal| {
                    check(&principal)?;
                    Ok($name(principal))
                }))
            }
        }
    )+};
}

rights! {
    /// May read something: with a key of scope `read` all of it, with a customer's token what is the
    /// customer's. Every handler asks [`Caller::sees`] about what it is going to show.
    Caller: |principal| match &principal.access {
        Access::Key(_) => principal.require(Scope::Read),
        Access::Customer(_) => Ok(()),
    };
    /// May read whatever the tenant has.
    Reads: |principal| principal.require(Scope::Read);
    /// May authorize requests and report usage.
    Uses: |principal| principal.require(Scope::Usage);
    /// May create customers, sell and change subscriptions, pay invoices.
    Bills: |principal| principal.require(Scope::Billing);
    /// May publish versions of the catalogue.
    Publishes: |principal| principal.require(Scope::Catalog);
    /// May do everything.
    Administers: |principal| principal.require(Scope::Admin);
}

impl Caller {
    /// Refused, exactly as if it did not exist, where `what` is another customer's than the
    /// token's own.
    pub(crate) fn sees(&self, owner: CustomerId, what: &'static str) -> Result<(), Refusal> {
        match &self.0.access {
            Access::Key(_) => Ok(()),
            Access::Customer(own) if *own == owner => Ok(()),
            Access::Customer(_) => Err(Refusal::NotFound { what }),
        }
    }
}

impl Uses {
    /// Refused unless the key may report usage of any age.
    pub(crate) fn require_backfill(&self) -> Result<(), Refusal> {
        self.0.require(Scope::Backfill)
    }
}

impl Administers {
    /// The operator's key: who it was.
    pub(crate) fn key(&self) -> Result<ApiKeyId, Refusal> {
        self.0.key.ok_or(Refusal::InsufficientScope { needed: Scope::Admin.name() })
    }
}

impl Bills {
    /// Refused unless the key is an operator's.
    pub(crate) fn require_admin(&self) -> Result<(), Refusal> {
        self.0.require(Scope::Admin)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use actix_web::test::TestRequest;
    use domain::calendar::Zone;
    use domain::id::TenantId;
    use domain::scope::TenantMode;
    use uuid::Uuid;

    fn customer(number: u128) -> CustomerId {
        CustomerId::from_uuid(Uuid::from_u128(number))
    }

    fn request_of(access: Access) -> HttpRequest {
        let scope = TenantScope {
            tenant: TenantId::from_uuid(Uuid::from_u128(1)),
            mode: TenantMode::Live,
            zone: Zone::UTC,
            now: domain::time::parse_rfc3339("2026-01-31T10:00:00Z").unwrap(),
            policies: Arc::default(),
        };
        let request = TestRequest::default().to_http_request();
        request.extensions_mut().insert(Principal { scope, access, key: None });
        request
    }

    fn code<T>(request: &HttpRequest) -> String
    where
        T: FromRequest<Error = Error, Future = Ready<Result<T, Error>>>,
    {
        match T::from_request(request, &mut Payload::None).into_inner() {
            Ok(_) => "ok".to_owned(),
            Err(Error::Service(db::Error::Refused(refusal))) => refusal.code().to_owned(),
            Err(error) => error.to_string(),
        }
    }

    fn all_codes(request: &HttpRequest) -> [String; 6] {
        [
            code::<Caller>(request),
            code::<Reads>(request),
            code::<Uses>(request),
            code::<Bills>(request),
            code::<Publishes>(request),
            code::<Administers>(request),
        ]
    }

    #[test]
    fn a_route_asks_for_its_scope_and_admin_implies_all() {
        const NO: &str = "insufficient-scope";
        for (access, codes) in [
            (Access::Key(Arc::new([])), [NO, NO, NO, NO, NO, NO]),
            (Access::Key(Arc::new([Scope::Read])), ["ok", "ok", NO, NO, NO, NO]),
            (Access::Key(Arc::new([Scope::Usage])), [NO, NO, "ok", NO, NO, NO]),
            (Access::Key(Arc::new([Scope::Billing])), [NO, NO, NO, "ok", NO, NO]),
            (Access::Key(Arc::new([Scope::Catalog])), [NO, NO, NO, NO, "ok", NO]),
            (Access::Key(Arc::new([Scope::Admin])), ["ok", "ok", "ok", "ok", "ok", "ok"]),
            (Access::Customer(customer(1)), ["ok", NO, NO, NO, NO, NO]),
        ] {
            assert_eq!(all_codes(&request_of(access.clone())), codes, "{access:?}");
        }
    }

    #[test]
    fn without_credentials_nobody_is_allowed_anything() {
        let request = TestRequest::default().to_http_request();
        assert_eq!(all_codes(&request), ["unauthenticated"; 6]);
    }

    #[test]
    fn a_customers_token_sees_its_own_customer_alone() {
        let caller = |access| Caller(principal(&request_of(access)).unwrap());
        let token = caller(Access::Customer(customer(1)));
        assert_eq!(token.sees(customer(1), "invoice"), Ok(()));
        assert_eq!(token.sees(customer(2), "invoice"), Err(Refusal::NotFound { what: "invoice" }));
        assert_eq!(caller(Access::Key(Arc::new([Scope::Read]))).sees(customer(2), "invoice"), Ok(()));
    }

    #[test]
    fn a_credential_is_the_one_bearer_header() {
        let with = |headers: &[&str]| {
            let request = headers.iter().fold(TestRequest::default(), |request, header| {
                request.append_header((AUTHORIZATION, *header))
            });
            bearer(&request.to_http_request()).map(str::to_owned)
        };
        assert_eq!(with(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(with(&["bearer  abc"]).as_deref(), Some("abc"));
        for none in [&[][..], &["Bearer"], &["Bearer "], &["Basic abc"], &["abc"], &["Bearer a", "Bearer b"]]
        {
            assert_eq!(with(none), None, "{none:?}");
        }
        let in_query = TestRequest::with_uri("/v1/plans?access_token=abc&key=abc").to_http_request();
        assert_eq!(bearer(&in_query), None);
    }
}
