//! `wit/job.wit` as host functions. Small and rare calls copy; bulk is borrowed in place from the guest's memory.

use std::sync::Arc;

use ingle_core::memory::MemoryPool;
use wasmtime::component::{
    Lift, Linker, LinkerInstance, Lower, Resource, ResourceTable, ResourceType, WasmList, WasmStr,
};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::component::ComponentHash;
use crate::dirtied::{Dirtied, Sampler};
use crate::files::{self, Asked};
use crate::host::{DriverHost, OutputSpec, SourceSpec, StageSpec, Stop, StorageLevel, TaskHost};
use crate::image::{Before, CaptureError, Image};
use crate::limits::Limiter;
use crate::log::LogSink;
use crate::memory::{self, COPIED, Laid};
use crate::net::{self, Network};
use crate::pagemap;
use crate::ranges::Ranges;

/// Bytes that one host call may take from a guest. Images have their own allowance, asked for before.
pub const CALL_BYTES: usize = 256 << 20;

/// WASI handles that one instance may hold.
pub const MAX_HANDLES: usize = 1024;
/// Handles are numbered from 1, lowest first where none was dropped; a component's own few are no WASI handles.
const RESERVED_HANDLES: usize = MAX_HANDLES + 64;

pub enum Role {
    Driver(Box<dyn DriverHost>),
    Task(Box<dyn TaskHost>),
    /// Being made for a task, by code of its own that runs then: who says whether that is to stop.
    Starting(Box<dyn Fn() -> bool + Send>),
    /// Between two tasks.
    Idle,
}

impl Role {
    /// Whether whoever plays it is to stop now.
    pub fn is_cancelled(&self) -> bool {
        match self {
            Role::Task(host) => host.cancelled(),
            Role::Starting(cancelled) => cancelled(),
            // A driver ends with its process.
            Role::Driver(_) | Role::Idle => false,
        }
    }
}

/// What a store holds for its instance.
pub struct State {
    pub wasi: WasiCtx,
    /// Which names it may look up.
    pub network: Arc<Network>,
    /// Where it prints.
    pub log: Arc<dyn LogSink>,
    pub table: ResourceTable,
    pub limiter: Limiter,
    pub ranges: Ranges,
    pub component: ComponentHash,
    pub role: Role,
    /// Who is asked before it writes to files.
    pub writes: Asked,
    /// Of a driver: the image that it may capture next. Of a task: none.
    pub announced: Option<u64>,
    /// Of a driver: the image that lies over its memory.
    pub before: Option<Before>,
    /// Of a task: what it starts from, and where that lies once it does.
    pub image: Option<Image>,
    pub laid: Option<Laid>,
    /// Its memory, if it has just one.
    pub memory: Option<usize>,
    /// What it wrote of a large one, and who looks at that.
    pub dirtied: Option<Arc<Dirtied>>,
    pub sampler: Sampler,
    /// The budget of tasks.
    pub pool: MemoryPool,
    /// Whether a task was told of its image: once, since growth for it is charged to the image.
    pub told_layout: bool,
    /// How many handles it had when the image was laid.
    pub handles: usize,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

type Cx<'a> = StoreContextMut<'a, State>;

fn misuse(what: impl Into<String>) -> Stop {
    Stop::Misuse(what.into())
}

impl State {
    fn driver(&mut self) -> Result<&mut dyn DriverHost, Stop> {
        match &mut self.role {
            Role::Driver(host) => Ok(&mut **host),
            _ => Err(misuse(
                "a task asked for what only the driver can do; a Context or an action of a Dataset was used in a closure",
            )),
        }
    }

    fn task(&mut self) -> Result<&mut dyn TaskHost, Stop> {
        if let Some(refused) = self.dirtied.as_ref().and_then(|dirtied| dirtied.refused()) {
            return Err(Stop::Host(refused));
        }
        match &mut self.role {
            Role::Task(host) if host.cancelled() => Err(Stop::Cancelled),
            Role::Task(host) => Ok(&mut **host),
            _ => Err(misuse("the driver asked for what only a task can do")),
        }
    }
}

/// A driver's function of plain parameters.
fn driver<P, R>(
    interface: &mut LinkerInstance<'_, State>,
    name: &str,
    call: impl Fn(&mut dyn DriverHost, P) -> Result<R, Stop> + Send + Sync + 'static,
) -> Result<()>
where
    P: Send + Sync + 'static,
    (P,): wasmtime::component::ComponentNamedList + Lift,
    R: Send + Sync + 'static,
    (R,): wasmtime::component::ComponentNamedList + Lower,
{
    interface
        .func_wrap(name, move |mut cx: Cx<'_>, (p,): (P,)| Ok((call(cx.data_mut().driver()?, p)?,)))
}

/// A driver's function without a result.
fn driver_unit<P>(
    interface: &mut LinkerInstance<'_, State>,
    name: &str,
    call: impl Fn(&mut dyn DriverHost, P) -> Result<(), Stop> + Send + Sync + 'static,
) -> Result<()>
where
    P: Send + Sync + 'static,
    (P,): wasmtime::component::ComponentNamedList + Lift,
{
    interface
        .func_wrap(name, move |mut cx: Cx<'_>, (p,): (P,)| Ok(call(cx.data_mut().driver()?, p)?))
}

/// Runs `call` with the host out of the store, so that it may look at the guest's bytes in place.
fn with_task<R>(
    cx: &mut Cx<'_>,
    call: impl FnOnce(&mut dyn TaskHost, &Cx<'_>) -> Result<R, Stop>,
) -> Result<R> {
    cx.data_mut().task()?;
    let mut role = std::mem::replace(&mut cx.data_mut().role, Role::Idle);
    let answer = match &mut role {
        Role::Task(host) => call(&mut **host, cx),
        _ => Err(misuse("no task is running")),
    };
    cx.data_mut().role = role;
    Ok(answer?)
}

/// Everything that a job may import.
pub fn link(linker: &mut Linker<State>) -> Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    net::link(linker)?;
    files::link(linker)?;
    link_driver(&mut linker.instance("ingle:job/driver@0.1.0")?)?;
    link_task(&mut linker.instance("ingle:job/task@0.1.0")?)?;
    link_image(&mut linker.instance("ingle:job/image@0.1.0")?)
}

/// The interfaces of [`link`], for telling what a component asks for in vain.
pub fn offers(import: &str) -> bool {
    let Some((name, version)) = import.split_once('@') else { return false };
    match name {
        "ingle:job/types" | "ingle:job/driver" | "ingle:job/task" | "ingle:job/image" => {
            version == "0.1.0"
        }
        _ => {
            let packages = [
                "wasi:cli/",
                "wasi:clocks/",
                "wasi:filesystem/",
                "wasi:io/",
                "wasi:random/",
                "wasi:sockets/",
            ];
            version.starts_with("0.2.") && packages.iter().any(|package| name.starts_with(package))
        }
    }
}

fn link_driver(l: &mut LinkerInstance<'_, State>) -> Result<()> {
    driver(l, "open-source", |host, spec: SourceSpec| host.open_source(spec))?;
    driver(l, "open-output", |host, spec: OutputSpec| host.open_output(spec))?;
    driver(l, "commit-output", |host, output: u32| host.commit_output(output))?;
    driver_unit(l, "drop-output", |host, output: u32| host.drop_output(output))?;
    driver(l, "new-cache", |host, level: StorageLevel| host.new_cache(level))?;
    driver_unit(l, "drop-cache", |host, cache: u32| host.drop_cache(cache))?;
    driver(l, "define-stage", |host, spec: StageSpec| host.define_stage(spec))?;
    driver_unit(l, "drop-stage", |host, stage: u32| host.drop_stage(stage))?;
    driver(l, "run", |host, stage: u32| host.run(stage))?;
    driver(l, "next", |host, job: u32| host.next(job))?;
    driver_unit(l, "cancel", |host, job: u32| host.cancel(job))?;
    driver(l, "setting", |host, key: String| host.setting(&key))?;
    l.func_wrap("default-parallelism", |mut cx: Cx<'_>, (): ()| {
        Ok((cx.data_mut().driver()?.default_parallelism()?,))
    })
}

fn link_task(l: &mut LinkerInstance<'_, State>) -> Result<()> {
    l.func_wrap("context", |mut cx: Cx<'_>, (): ()| {
        let mut context = cx.data_mut().task()?.context();
        context.memory = context.memory.saturating_sub(cx.data().limiter.charged());
        Ok((context,))
    })?;
    l.func_wrap("payload", |mut cx: Cx<'_>, (): ()| Ok((cx.data_mut().task()?.payload(),)))?;
    l.func_wrap("open-split", |mut cx: Cx<'_>, (source, split): (u32, u32)| {
        Ok((cx.data_mut().task()?.open_split(source, split)?,))
    })?;
    l.func_wrap("open-shuffle", |mut cx: Cx<'_>, (stage, partition): (u32, u32)| {
        let partitions = partition..partition.saturating_add(1);
        Ok((cx.data_mut().task()?.open_shuffle(stage, partitions, None)?,))
    })?;
    l.func_wrap(
        "open-shuffle-range",
        |mut cx: Cx<'_>, (stage, first, partitions): (u32, u32, u32)| {
            let partitions = first..first.saturating_add(partitions);
            Ok((cx.data_mut().task()?.open_shuffle(stage, partitions, None)?,))
        },
    )?;
    l.func_wrap(
        "open-shuffle-part",
        |mut cx: Cx<'_>, (stage, partition, first, tasks): (u32, u32, u32, u32)| {
            let partitions = partition..partition.saturating_add(1);
            let part = Some((first, tasks));
            Ok((cx.data_mut().task()?.open_shuffle(stage, partitions, part)?,))
        },
    )?;
    l.func_wrap("open-cached", |mut cx: Cx<'_>, (cache, partition): (u32, u32)| {
        Ok((cx.data_mut().task()?.open_cached(cache, partition)?,))
    })?;
    l.func_wrap("read", |mut cx: Cx<'_>, (reader,): (u32,)| {
        Ok((cx.data_mut().task()?.read(reader)?,))
    })?;
    l.func_wrap("close", |mut cx: Cx<'_>, (reader,): (u32,)| {
        Ok(cx.data_mut().task()?.close(reader)?)
    })?;
    l.func_wrap("describe", |mut cx: Cx<'_>, (reader,): (u32,)| {
        Ok((cx.data_mut().task()?.describe(reader)?,))
    })?;
    l.func_wrap("line-number", |mut cx: Cx<'_>, (reader, offset): (u32, u64)| {
        Ok((cx.data_mut().task()?.line_number(reader, offset)?,))
    })?;
    l.func_wrap("split-extent", |mut cx: Cx<'_>, (reader,): (u32,)| {
        Ok((cx.data_mut().task()?.extent(reader)?,))
    })?;
    l.func_wrap("read-at", |mut cx: Cx<'_>, (reader, offset, length): (u32, u64, u32)| {
        Ok((cx.data_mut().task()?.read_at(reader, offset, length)?,))
    })?;
    l.func_wrap("write", |mut cx: Cx<'_>, (partition, block): (u32, WasmList<u8>)| {
        with_task(&mut cx, |host, cx| host.write(partition, block.as_le_slice(cx)))
    })?;
    l.func_wrap("emit", |mut cx: Cx<'_>, (block,): (WasmList<u8>,)| {
        with_task(&mut cx, |host, cx| host.emit(block.as_le_slice(cx)))
    })?;
    l.func_wrap(
        "write-cached",
        |mut cx: Cx<'_>, (cache, partition, block): (u32, u32, WasmList<u8>)| {
            with_task(&mut cx, |host, cx| {
                Ok((host.write_cached(cache, partition, block.as_le_slice(cx))?,))
            })
        },
    )?;
    l.func_wrap("finish-cached", |mut cx: Cx<'_>, (cache, partition): (u32, u32)| {
        Ok(cx.data_mut().task()?.finish_cached(cache, partition)?)
    })?;
    l.func_wrap("create-run", |mut cx: Cx<'_>, (): ()| {
        Ok((cx.data_mut().task()?.create_run()?,))
    })?;
    l.func_wrap("write-run", |mut cx: Cx<'_>, (run, block): (u32, WasmList<u8>)| {
        with_task(&mut cx, |host, cx| host.write_run(run, block.as_le_slice(cx)))
    })?;
    l.func_wrap("open-run", |mut cx: Cx<'_>, (run,): (u32,)| {
        Ok((cx.data_mut().task()?.open_run(run)?,))
    })?;
    l.func_wrap("drop-run", |mut cx: Cx<'_>, (run,): (u32,)| {
        Ok(cx.data_mut().task()?.drop_run(run)?)
    })?;
    l.func_wrap("accumulate", |mut cx: Cx<'_>, (accumulator, update): (u32, WasmList<u8>)| {
        with_task(&mut cx, |host, cx| host.accumulate(accumulator, update.as_le_slice(cx)))
    })?;
    l.func_wrap("fail", |mut cx: Cx<'_>, (message,): (WasmStr,)| -> Result<()> {
        let message = message.to_str(&cx)?.into_owned();
        cx.data_mut().task()?;
        Err(Stop::Failed(message).into())
    })
}

/// `image.mark`: nothing stands behind it.
struct Mark;

fn link_image(l: &mut LinkerInstance<'_, State>) -> Result<()> {
    l.resource("mark", ResourceType::host::<Mark>(), |_, _| Ok(()))?;
    l.func_wrap("reserve-handles", |mut cx: Cx<'_>, (): ()| {
        cx.data_mut().driver()?;
        let marks = 0..RESERVED_HANDLES;
        Ok((marks.map(|_| Resource::<Mark>::new_own(0)).collect::<Vec<_>>(),))
    })?;
    l.func_wrap("announce", |mut cx: Cx<'_>, (length,): (u64,)| {
        let pool = cx.data_mut().driver()?.image_pool();
        if length > pool.capacity().0 {
            let length = ingle_core::size::ByteSize(length);
            let capacity = pool.capacity();
            return Ok((Err(format!(
                "the driver's memory, {length}, is more than the executors' {capacity}: raise --executor-memory"
            )),));
        }
        cx.data_mut().announced = Some(length);
        cx.set_hostcall_fuel(CALL_BYTES.saturating_add(length as usize));
        Ok((Ok::<(), String>(()),))
    })?;
    l.func_wrap("capture", |mut cx: Cx<'_>, (region,): (WasmList<u8>,)| {
        cx.set_hostcall_fuel(CALL_BYTES);
        Ok((capture(&mut cx, &region)?,))
    })?;
    l.func_wrap("release", |mut cx: Cx<'_>, (image,): (u32,)| {
        Ok(cx.data_mut().driver()?.release_image(image)?)
    })?;
    l.func_wrap("layout", |mut cx: Cx<'_>, (): ()| {
        cx.data_mut().task()?;
        Ok((layout(&mut cx)?,))
    })?;
    l.func_wrap("restore", |mut cx: Cx<'_>, (region,): (WasmList<u8>,)| {
        cx.set_hostcall_fuel(CALL_BYTES);
        restore(&mut cx, &region)
    })
}

#[derive(Clone, Copy, wasmtime::component::ComponentType, Lower)]
#[component(record)]
struct Placement {
    base: u64,
    length: u64,
}

fn capture(cx: &mut Cx<'_>, region: &WasmList<u8>) -> Result<Result<u32, String>> {
    let announced = cx.data_mut().announced.take();
    let pool = cx.data_mut().driver()?.image_pool();
    let bytes = region.as_le_slice(&*cx);
    if announced != Some(bytes.len() as u64) {
        return Err(misuse("an image that wasn't announced").into());
    }
    let ranges = &cx.data().ranges;
    let Some(base) = memory::offset_of(ranges, bytes) else {
        return Err(misuse("an image of what isn't its memory").into());
    };
    let part = match memory::check(ranges, bytes, base) {
        Ok(part) => part,
        Err(error) => return Err(misuse(error.to_string()).into()),
    };
    let state = cx.data();
    let image = match picture(state.component, state.before.as_ref(), base, bytes, &pool) {
        Ok(image) => image,
        Err(error) => return Ok(Err(error.to_string())),
    };
    if image.length() >= LAID {
        // So that the next one finds what the driver makes its own until then, and nothing is held twice.
        memory::lay(&cx.data().ranges, part, &image).map_err(|e| Stop::Host(e.to_string()))?;
        cx.data_mut().before = Some(image.before());
    }
    Ok(Ok(cx.data_mut().driver()?.keep_image(image)?))
}

/// An image so large lies over the driver's memory once it was taken; a smaller one is copied as fast as that is done.
const LAID: u64 = 8 << 20;

/// Takes an image: of what changed since the last one, if that lies there.
fn picture(
    component: ComponentHash,
    before: Option<&Before>,
    base: u64,
    bytes: &[u8],
    pool: &MemoryPool,
) -> Result<Image, CaptureError> {
    if let Some(before) = before.filter(|before| before.base() == base) {
        let start = bytes.as_ptr() as usize + COPIED;
        let length = (before.length() as usize).saturating_sub(COPIED);
        if let Some(own) = pagemap::own_pages(start, length, usize::MAX)
            && let Some(image) = Image::capture_changes(component, before, bytes, &own, pool)?
        {
            return Ok(image);
        }
    }
    Image::capture(component, base, bytes, pool)
}

/// Where the image belongs. Whoever has one memory grows it at the image's cost, and from now on what it makes its own there is seen.
fn layout(cx: &mut Cx<'_>) -> Result<Option<Placement>> {
    let state = cx.data_mut();
    let image = match &state.image {
        Some(image) if !std::mem::replace(&mut state.told_layout, true) => image.clone(),
        _ => return Ok(None),
    };
    let (base, length) = (image.base(), image.length());
    if let (Some(memory), Role::Task(host)) = (state.memory, &state.role) {
        state.limiter.prepay(base, length);
        // The first part will be a copy, so the task's own in any case.
        let head = image.head_length();
        let paid = state.limiter.paid().saturating_sub(head as u64);
        let start = memory + base as usize + head;
        state.dirtied = Dirtied::new(start, length as usize - head, paid, &state.pool);
        if let Some(dirtied) = &state.dirtied {
            dirtied.begin(host.overdrawn());
            let added = state.sampler.add(dirtied);
            added.map_err(|e| Stop::Host(format!("starting the memory sampler: {e}")))?;
        }
    }
    cx.set_hostcall_fuel(CALL_BYTES.saturating_add(length as usize));
    Ok(Some(Placement { base, length }))
}

fn restore(cx: &mut Cx<'_>, region: &WasmList<u8>) -> Result<()> {
    cx.data_mut().task()?;
    let Some(image) = cx.data().image.clone() else {
        return Err(misuse("restore without an image").into());
    };
    if image.component() != cx.data().component {
        return Err(misuse("an image of another component").into());
    }
    if cx.data().laid.is_some() {
        return Err(misuse("an image is restored once").into());
    }
    let part = {
        let bytes = region.as_le_slice(&*cx);
        if bytes.len() as u64 != image.length() {
            return Err(misuse("an image is restored as a whole").into());
        }
        memory::check(&cx.data().ranges, bytes, image.base()).map_err(|e| misuse(e.to_string()))?
    };
    memory::lay(&cx.data().ranges, part, &image).map_err(|e| Stop::Host(e.to_string()))?;
    let state = cx.data_mut();
    state.laid = Some(part);
    state.limiter.end_prepayment();
    state.handles = state.table.iter_mut().count();
    Ok(())
}
