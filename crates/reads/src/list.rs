//! Lists in pages. What is not wanted of a page is dropped while it is read.

use std::fmt;

use kube::Client;
use kube::api::ListParams;
use kube::core::Request;
use serde::Deserialize;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::answer::{self, TooLarge};
use crate::budget::Budget;
use crate::value::{Managers, Weighed, failed};

/// How many pages of one list are read.
const MOST_PAGES: usize = 200;
/// How many bytes of one list are read, all pages together.
const MOST_BYTES: usize = 64 << 20;
/// By how much fewer objects are asked for when a page was too long.
const SMALLER: u32 = 5;

/// Whether a list was read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was.
    Reached,
    /// There is more.
    Cut,
}

/// What of each object is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// All of it.
    Whole,
    /// Its metadata.
    Metadata,
}

/// Reads the items of a list.
pub trait Items {
    /// Reads the next one; false when there is none.
    fn next<'de, A: SeqAccess<'de>>(&mut self, items: &mut A) -> Result<bool, A::Error>;
    /// An error that is to be told.
    fn failed(&self, error: serde_json::Error) -> kube::Error;
}

/// Objects as they are served, as far as they are wanted.
pub struct Objects<'a, K> {
    budget: &'a Budget,
    weighed: Weighed<'a>,
    keep: K,
    kept: usize,
}

impl<'a, K: FnMut(Value) -> bool> Objects<'a, K> {
    /// Gives each object to `keep`, which says whether it was kept.
    pub fn new(budget: &'a Budget, managers: Managers, keep: K) -> Self {
        Self {
            budget,
            weighed: Weighed::new(budget, managers),
            keep,
            kept: 0,
        }
    }

    /// What was kept is not wanted after all.
    pub fn give_back(&mut self) {
        self.budget.give(std::mem::take(&mut self.kept));
    }
}

impl<K: FnMut(Value) -> bool> Items for Objects<'_, K> {
    fn next<'de, A: SeqAccess<'de>>(&mut self, items: &mut A) -> Result<bool, A::Error> {
        let Some(object) = items.next_element_seed(self.weighed.object())? else {
            return Ok(false);
        };
        let taken = self.weighed.taken();
        if (self.keep)(object) {
            self.kept += taken;
        } else {
            self.budget.give(taken);
        }
        Ok(true)
    }

    fn failed(&self, error: serde_json::Error) -> kube::Error {
        failed(&self.weighed, self.budget, error)
    }
}

/// Objects of which only what `T` has is read.
pub struct Parts<T, K> {
    keep: K,
    of: std::marker::PhantomData<T>,
}

impl<T, K: FnMut(T)> Parts<T, K> {
    /// Gives each of them to `keep`.
    pub fn new(keep: K) -> Self {
        Self {
            keep,
            of: std::marker::PhantomData,
        }
    }
}

impl<T: for<'de> Deserialize<'de>, K: FnMut(T)> Items for Parts<T, K> {
    fn next<'de, A: SeqAccess<'de>>(&mut self, items: &mut A) -> Result<bool, A::Error> {
        let next = items.next_element::<T>()?;
        let any = next.is_some();
        next.into_iter().for_each(&mut self.keep);
        Ok(any)
    }

    fn failed(&self, error: serde_json::Error) -> kube::Error {
        kube::Error::SerdeError(error)
    }
}

/// Reads one page of at most so many bytes. Gives the token of the next one, and how many bytes it had.
pub async fn page(
    client: &Client,
    url: &str,
    what: What,
    parameters: &ListParams,
    most: usize,
    items: &mut impl Items,
) -> kube::Result<(Option<String>, usize)> {
    let request = Request::new(url);
    let request = match what {
        What::Whole => request.list(parameters),
        What::Metadata => request.list_metadata(parameters),
    };
    let request = request.map_err(kube::Error::BuildRequest)?;
    let answer = answer::read(client, request, most).await?;
    let mut json = serde_json::Deserializer::from_slice(answer.bytes());
    let next = List(items).deserialize(&mut json);
    let next = next.map_err(|error| items.failed(error))?;
    Ok((next, answer.bytes().len()))
}

/// Reads page after page. A page that is too long is asked for anew with fewer objects.
pub async fn pages(
    client: &Client,
    url: &str,
    what: What,
    parameters: ListParams,
    items: &mut impl Items,
) -> kube::Result<End> {
    let mut parameters = parameters;
    let (mut bytes, mut pages) = (0, 0);
    loop {
        let found = page(client, url, what, &parameters, answer::LARGEST, items).await;
        let (next, length) = match found {
            Ok(found) => found,
            Err(error) if is_too_long(&error) && parameters.limit != Some(1) => {
                parameters = smaller(parameters);
                bytes += answer::LARGEST;
                if bytes > MOST_BYTES {
                    return Ok(End::Cut);
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        (bytes, pages) = (bytes + length, pages + 1);
        let Some(next) = next else {
            return Ok(End::Reached);
        };
        if bytes > MOST_BYTES || pages >= MOST_PAGES {
            return Ok(End::Cut);
        }
        parameters = parameters.continue_token(&next);
    }
}

/// The same list with fewer objects on a page. What a cache answers has no pages.
fn smaller(parameters: ListParams) -> ListParams {
    let limit = parameters.limit.unwrap_or(500) / SMALLER;
    ListParams {
        version_match: None,
        resource_version: None,
        ..parameters
    }
    .limit(limit.max(1))
}

/// Objects that explain and decide nothing: the first ones, as far as there is room for them.
pub async fn first(
    client: &Client,
    url: &str,
    parameters: ListParams,
    budget: &Budget,
) -> kube::Result<Vec<Value>> {
    let mut parameters = parameters;
    loop {
        let mut found = Vec::new();
        let mut items = Objects::new(budget, Managers::Dropped, |object| {
            found.push(object);
            true
        });
        let page = page(
            client,
            url,
            What::Whole,
            &parameters,
            answer::LARGEST,
            &mut items,
        )
        .await;
        match page {
            Ok(_) => return Ok(found),
            Err(error) if is_too_long(&error) && parameters.limit != Some(1) => {
                parameters = smaller(parameters);
            }
            Err(error) => {
                items.give_back();
                return Err(error);
            }
        }
    }
}

/// Whether it was the bytes of the answer that were too many.
fn is_too_long(error: &kube::Error) -> bool {
    match error {
        kube::Error::Service(source) => {
            matches!(source.downcast_ref(), Some(TooLarge::Bytes(_)))
        }
        _ => false,
    }
}

#[derive(Default, Deserialize)]
struct ListMeta {
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

/// A list: gives its items away, and the token of the next page back.
struct List<'a, I>(&'a mut I);

impl<'de, I: Items> DeserializeSeed<'de> for List<'_, I> {
    type Value = Option<String>;

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Option<String>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, I: Items> Visitor<'de> for List<'_, I> {
    type Value = Option<String>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a list of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Option<String>, A::Error> {
        let mut next = None;
        while let Some(field) = fields.next_key::<String>()? {
            match field.as_str() {
                "metadata" => next = fields.next_value::<ListMeta>()?.next,
                "items" => fields.next_value_seed(All(&mut *self.0))?,
                _ => {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(next.filter(|token| !token.is_empty()))
    }
}

/// The items of a list; Go writes null for none.
struct All<'a, I>(&'a mut I);

impl<'de, I: Items> DeserializeSeed<'de> for All<'_, I> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, I: Items> Visitor<'de> for All<'_, I> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("objects")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while self.0.next(&mut items)? {}
        Ok(())
    }
}
