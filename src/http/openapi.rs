//! The OpenAPI 3.1 document of the public API, put together from the code that answers, and the page to try it.
//!
//! Each file of `http` describes its handlers (`Docs`); here they are joined, and what is true of all of them is said once: that
//! errors are problem+json, that a bearer token is needed unless a handler says otherwise, how large integers may be. A test
//! (`the_document_and_the_route_table_agree`) keeps it equal to the route table.

use super::{
    Api, auth, channels, contacts, deletion, devices, email, error, etag, export, incoming, invites, members, messages, moderation,
    newcomers, notify, password, push, rooms, totp, users, webhooks,
};
use crate::config::Rooms;
use crate::error::{ApiError, Code};
use actix_web::http::header;
use actix_web::{HttpResponse, web};
use serde_json::{Map, Value, json};
use std::sync::{Arc, LazyLock};
use utoipa::OpenApi;
use utoipa_swagger_ui::Config;

/// Where the document is.
pub const ADDRESS: &str = "/v1/openapi.json";

/// What the page may load and do: its own files, styles that its scripts set, and requests to this server.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

#[derive(OpenApi)]
#[openapi(
    paths(document),
    components(schemas(error::Problem)),
    info(
        title = "Hubbub",
        description = "A chat server: people, rooms and messages over HTTP. What happens live goes over the WebSocket at `/v1/socket`.\n\n\
            Every error is a problem+json whose `code` is for programs. Lists come in pages: `next` of one is the `cursor` of the following. \
            A POST that creates may carry an `Idempotency-Key`; a GET of a single thing answers with an `ETag`, for `If-None-Match`, and for \
            `If-Match` when it is changed. Every answer says in `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` how many \
            requests are left.",
        license(name = "MIT OR Apache-2.0")
    )
)]
struct Base;

/// Each part's name, and what it describes.
fn parts() -> Vec<(&'static str, utoipa::openapi::OpenApi)> {
    vec![
        ("meta", Base::openapi()),
        ("auth", auth::Docs::openapi()),
        ("password", password::Docs::openapi()),
        ("email", email::Docs::openapi()),
        ("devices", devices::Docs::openapi()),
        ("totp", totp::Docs::openapi()),
        ("deletion", deletion::Docs::openapi()),
        ("export", export::Docs::openapi()),
        ("users", users::Docs::openapi()),
        ("contacts", contacts::Docs::openapi()),
        ("rooms", rooms::Docs::openapi()),
        ("members", members::Docs::openapi()),
        ("messages", messages::Docs::openapi()),
        ("invites", invites::Docs::openapi()),
        ("channels", channels::Docs::openapi()),
        ("moderation", moderation::Docs::openapi()),
        ("notify", notify::Docs::openapi()),
        ("push", push::Docs::openapi()),
        ("newcomers", newcomers::Docs::openapi()),
        ("webhooks", webhooks::Docs::openapi()),
        ("incoming", incoming::Docs::openapi()),
    ]
}

/// The whole document.
pub fn whole() -> Value {
    let mut parts = parts().into_iter().map(|(name, part)| (name, serde_json::to_value(part).expect("a document is JSON")));
    let (name, mut whole) = parts.next().unwrap_or_default();
    label(&mut whole, name);
    for (name, mut part) in parts {
        label(&mut part, name);
        for of in [&["paths"][..], &["components", "schemas"]] {
            join(&mut whole, &part, of);
        }
    }
    common(&mut whole);
    forms(&mut whole);
    tidy(&mut whole);
    whole
}

/// Of which forms a body must have one, where its fields alone do not say it: a schema, and the forms as JSON Schemas.
const FORMS: &[(&str, &str)] = &[
    (
        "NewMessage",
        r#"[{"required": ["text"], "properties": {"text": {"minLength": 1}}},
            {"required": ["attachments"], "properties": {"attachments": {"minItems": 1}}},
            {"required": ["data"], "properties": {"data": {"type": "string", "minLength": 1}}}]"#,
    ),
    (
        "NewRoom",
        r#"[{"required": ["name"], "properties": {"kind": {"enum": ["group", "channel"]}, "name": {"type": "string"}}},
            {"required": ["members"], "properties": {"kind": {"const": "direct"}, "name": {"type": "null"}, "topic": {"type": "null"},
                "members": {"minItems": 1, "maxItems": 1}}}]"#,
    ),
    (
        "Forgotten",
        r#"[{"required": ["name"], "properties": {"name": {"type": "string"}, "email": {"type": "null"}}},
            {"required": ["email"], "properties": {"email": {"type": "string"}, "name": {"type": "null"}}}]"#,
    ),
    (
        "NewReport",
        r#"[{"required": ["room", "seq"],
                "properties": {"room": {"type": "string"}, "seq": {"type": "integer"}, "user": {"type": "null"}}},
            {"required": ["user"], "properties": {"user": {"type": "string"}, "room": {"type": "null"}, "seq": {"type": "null"}}}]"#,
    ),
];

fn forms(doc: &mut Value) {
    for (name, forms) in FORMS {
        if let Some(schema) = doc["components"]["schemas"].get_mut(*name) {
            schema["anyOf"] = serde_json::from_str(forms).expect("the forms are JSON, which a test reads");
        }
    }
}

/// Gives every operation its part's name as tag, and a name that no other part's operation has.
fn label(part: &mut Value, name: &str) {
    for operation in operations(part) {
        let id = operation["operationId"].as_str().unwrap_or_default();
        operation["operationId"] = format!("{name}_{id}").into();
        operation["tags"] = json!([name]);
    }
}

/// All operations of all addresses.
fn operations(doc: &mut Value) -> impl Iterator<Item = &mut Value> {
    let paths = doc["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    paths.filter_map(Value::as_object_mut).flat_map(Map::values_mut).filter(|operation| operation.is_object())
}

/// Adds what `part` has at `path` and `whole` has not; addresses with other methods are joined.
fn join(whole: &mut Value, part: &Value, path: &[&str]) {
    let Some(part) = path.iter().try_fold(part, |at, key| at.get(key)).and_then(Value::as_object) else { return };
    let target = path.iter().fold(whole, |at, key| &mut at[key]);
    for (name, value) in part {
        let have = &mut target[name];
        if have.is_null() {
            *have = value.clone();
        } else if let (Some(have), Some(more)) = (have.as_object_mut(), value.as_object()) {
            have.extend(more.clone());
        }
    }
}

/// What is true of every operation.
fn common(doc: &mut Value) {
    doc["components"]["securitySchemes"] = json!({ "bearer": {
        "type": "http", "scheme": "bearer",
        "description": "an access token (`/v1/auth/login`, or of an issuer that is configured), or an API key (with `Hubbub-As`)",
    }});
    doc["components"]["responses"] = json!({ "Problem": {
        "description": "an error; `code` says which",
        "content": { error::PROBLEM: { "schema": { "$ref": "#/components/schemas/Problem" } } },
    }});
    let problem = json!({ "$ref": "#/components/responses/Problem" });
    for operation in operations(doc) {
        // `security(())` in a handler's description: for everybody.
        if operation.get("security").is_some() {
            operation["security"] = json!([]);
        } else {
            operation["security"] = json!([{ "bearer": [] }]);
            operation["responses"]["401"] = problem.clone();
        }
        operation["responses"]["429"] = problem.clone();
        operation["responses"]["default"] = problem.clone();
    }
}

/// Says more exactly what the derived schemas leave open. See each step.
fn tidy(doc: &mut Value) {
    let schemas = doc["components"]["schemas"].as_object().cloned().unwrap_or_default();
    // Aliases of plain types (`Millis`, `Seq`) were given components of their own, named after the plain type.
    let plain: Map<String, Value> = schemas.into_iter().filter(|(name, _)| is_plain(name)).collect();
    each(doc, &|value| {
        let name = value["$ref"].as_str().and_then(|r| r.strip_prefix("#/components/schemas/")).unwrap_or_default();
        if let (Some(schema), Some(object)) = (plain.get(name).and_then(Value::as_object), value.as_object_mut()) {
            object.remove("$ref");
            for (key, value) in schema {
                object.entry(key.clone()).or_insert(value.clone());
            }
        }
        bounds(value);
        // Links of the code's own documentation mean nothing here.
        if let Some(Value::String(text)) = value.get_mut("description") {
            *text = text.replace("[`", "`").replace("`]", "`");
        }
    });
    if let Some(schemas) = doc["components"]["schemas"].as_object_mut() {
        schemas.retain(|name, _| !is_plain(name));
    }
    for operation in operations(doc) {
        // A parameter is absent, or a text: there is no null in an address or a header.
        for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
            never_null(&mut parameter["schema"]);
        }
    }
}

fn is_plain(schema: &str) -> bool {
    schema == "String" || schema.starts_with(|c: char| c.is_ascii_lowercase())
}

fn each(value: &mut Value, step: &impl Fn(&mut Value)) {
    if value.is_object() {
        step(value);
    }
    match value {
        Value::Object(object) => object.values_mut().for_each(|v| each(v, step)),
        Value::Array(list) => list.iter_mut().for_each(|v| each(v, step)),
        _ => {}
    }
}

/// Unsigned integers end where their type does, and are called unsigned.
fn bounds(schema: &mut Value) {
    let of_type = |t: &Value| t == "integer" || t.as_array().is_some_and(|ts| ts.iter().any(|t| t == "integer"));
    let Some(object) = schema.as_object_mut() else { return };
    if !object.get("type").is_some_and(of_type)
        || object.contains_key("maximum")
        || object.get("minimum").is_none_or(|m| m.as_f64() < Some(0.0))
    {
        return;
    }
    let (format, maximum) =
        if object.get("format").is_some_and(|f| f == "int32") { ("uint32", u64::from(u32::MAX)) } else { ("uint64", u64::MAX) };
    object.insert("format".into(), format.into());
    object.insert("maximum".into(), maximum.into());
}

fn never_null(schema: &mut Value) {
    if let Some(types) = schema["type"].as_array().cloned() {
        let types: Vec<Value> = types.into_iter().filter(|t| t != "null").collect();
        schema["type"] = if let [only] = &types[..] { only.clone() } else { types.into() };
    } else if let Some(one_of) = schema["oneOf"].as_array().cloned() {
        let kept: Vec<Value> = one_of.into_iter().filter(|s| s["type"] != "null").collect();
        *schema = if let [only] = &kept[..] { only.clone() } else { json!({ "oneOf": kept }) };
    }
}

static DOCUMENT: LazyLock<Value> = LazyLock::new(whole);
static PAGE: LazyLock<Arc<Config<'static>>> =
    LazyLock::new(|| Arc::new(Config::from(ADDRESS).try_it_out_enabled(true).validator_url("none")));

/// Lists of a body whose length an operator chooses: schema, field, and how many.
fn chosen(doc: &mut Value, rooms: &Rooms) {
    let lists = [
        ("NewMessage", "attachments", rooms.attachments_max),
        ("NewMessage", "mentions", rooms.mentions_max),
        ("NewText", "mentions", rooms.mentions_max),
    ];
    for (schema, field, max) in lists {
        doc["components"]["schemas"][schema]["properties"][field]["maxItems"] = max.into();
    }
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", security(()), params(etag::IfNoneMatchHeader),
    responses((status = 200, description = "the document", body = Object), (status = 304, description = "as before")))]
pub async fn document(api: web::Data<Api>, when: etag::Conditions) -> HttpResponse {
    let mut document = DOCUMENT.clone();
    chosen(&mut document, &api.config.rooms);
    when.show(&document)
}

/// `GET /docs`: to the page.
pub async fn to_page() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((header::LOCATION, "/docs/")).finish()
}

/// `GET /docs/…`: the files of the page.
pub async fn page(file: web::Path<String>) -> Result<HttpResponse, ApiError> {
    let found = utoipa_swagger_ui::serve(&file, PAGE.clone()).map_err(|error| {
        tracing::error!(%error, "the page of the API could not be made");
        ApiError::new(Code::Internal, "the page could not be made")
    })?;
    let Some(file) = found else { return error::not_found().await };
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CONTENT_SECURITY_POLICY, PAGE_POLICY));
    if file.gzpipped {
        response.insert_header((header::CONTENT_ENCODING, "gzip"));
    }
    Ok(response.content_type(file.content_type).body(file.bytes.into_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_its_own_name() {
        let mut doc = whole();
        assert_eq!(doc["openapi"], "3.1.0");
        let text = doc.to_string();
        for part in text.split("\"$ref\":\"#").skip(1) {
            let pointer = part.split('"').next().unwrap();
            assert!(doc.pointer(pointer).is_some(), "{pointer} is not there");
        }
        for operation in operations(&mut doc) {
            let parameters = operation["parameters"].as_array().map_or(&[][..], |p| p);
            let names: BTreeSet<String> = parameters.iter().map(|p| format!("{} {}", p["in"], p["name"])).collect();
            assert_eq!(names.len(), parameters.len(), "{}: {names:?}", operation["operationId"]);
        }
        let all: Vec<Value> = operations(&mut doc).map(|o| o["operationId"].clone()).collect();
        let names: BTreeSet<String> = all.iter().map(Value::to_string).collect();
        assert!(all.len() > 10 && names.len() == all.len(), "{all:?}");
    }

    #[test]
    fn what_is_said_beside_the_derived_schemas_is_about_fields_that_are_there() {
        let mut doc = whole();
        let fields = doc["components"]["schemas"].clone();
        for (name, forms) in FORMS {
            for form in serde_json::from_str::<Vec<Value>>(forms).unwrap() {
                let said = form["required"].as_array().into_iter().flatten().map(|field| field.as_str().unwrap());
                let said = said.chain(form["properties"].as_object().into_iter().flat_map(Map::keys).map(String::as_str));
                said.for_each(|field| assert!(fields[name]["properties"].get(field).is_some(), "{name}.{field}"));
            }
        }
        chosen(&mut doc, &Rooms { attachments_max: 3, ..Rooms::default() });
        let schemas = doc["components"]["schemas"].as_object().unwrap();
        assert_eq!(schemas.len(), fields.as_object().unwrap().len());
        assert_eq!(schemas["NewMessage"]["properties"]["attachments"]["maxItems"], 3);
        let bounded = |s: &Value| {
            s["properties"].as_object().into_iter().flat_map(Map::values).any(|f| f.get("maxItems").is_some() && f.get("type").is_none())
        };
        assert!(!schemas.values().any(bounded), "a bound of a field that is not there");
    }

    #[test]
    fn schemas_of_one_name_are_one_schema() {
        let mut found: Map<String, Value> = Map::new();
        for (part, doc) in parts() {
            let doc = serde_json::to_value(doc).unwrap();
            for (name, schema) in doc["components"]["schemas"].as_object().into_iter().flatten() {
                let first = found.entry(name).or_insert(schema.clone());
                assert_eq!(first, schema, "{name} of {part} is another one than that of an earlier part: say #[schema(as = …)]");
            }
        }
    }

    #[test]
    fn parameters_are_never_null_and_integers_end() {
        let mut doc = json!({
            "paths": { "/x": { "get": { "parameters": [
                { "schema": { "type": ["string", "null"] } },
                { "schema": { "oneOf": [{ "type": "null" }, { "$ref": "#/components/schemas/UserId" }] } },
            ]}}},
            "components": { "schemas": {
                "u64": { "type": "integer", "format": "int64", "minimum": 0 },
                "A": { "properties": { "at": { "$ref": "#/components/schemas/u64", "description": "see [`At`]" } } },
            }},
        });
        tidy(&mut doc);
        let parameters = &doc["paths"]["/x"]["get"]["parameters"];
        assert_eq!(parameters[0]["schema"], json!({ "type": "string" }));
        assert_eq!(parameters[1]["schema"], json!({ "$ref": "#/components/schemas/UserId" }));
        let at = json!({ "type": "integer", "format": "uint64", "minimum": 0, "maximum": u64::MAX, "description": "see `At`" });
        assert_eq!(doc["components"]["schemas"], json!({ "A": { "properties": { "at": at } } }));
    }
}
