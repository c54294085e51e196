//! The directory of public channels.

use super::auth::SignedIn;
use super::page::{Page, PageQuery};
use super::rooms::Node;
use crate::actors::looking::{self, ChannelShown};
use crate::error::{ApiError, Code};
use crate::protocol::validate::NAME_CHARS_MAX;
use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::{IntoParams, OpenApi};

/// What this file adds to the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(list))]
pub struct Docs;

/// Which channels.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Named {
    /// How their names begin, in whichever case; all when absent.
    #[param(max_length = 100)]
    q: Option<String>,
}

/// Public channels, in order of their names. A page may be short and still have a `next`.
#[utoipa::path(get, path = "/v1/channels", params(Named, PageQuery),
    responses((status = 200, description = "a page of them", body = Page<ChannelShown>)))]
pub async fn list(node: Node, me: SignedIn, named: web::Query<Named>, page: web::Query<PageQuery>) -> Result<HttpResponse, ApiError> {
    let prefix = named.q.as_deref().unwrap_or_default();
    if prefix.chars().count() > NAME_CHARS_MAX {
        return Err(ApiError::new(Code::Invalid, format!("q: at most {NAME_CHARS_MAX} characters")));
    }
    let (channels, next) = looking::channels(&node, me.user.user, prefix, page.place()?, page.limit()?).await?;
    Ok(HttpResponse::Ok().json(Page::new(channels, next)))
}
