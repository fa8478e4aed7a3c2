//! The engine, a loaded job, and instances of its two roles.

use std::fs::File;
use std::sync::Arc;

use ingle_core::memory::MemoryPool;
use wasmtime::component::{Component, InstancePre, Linker, ResourceTable, TypedFunc};
use wasmtime::{Config, Engine, Store, UpdateDeadline};

use crate::cache::{self, CodeCache};
use crate::component::{self, ComponentError, ComponentHash, Exports, FileKind};
use crate::dirtied::Sampler;
use crate::failure::{self, FailureKind, GuestFailure, TASK_HINT};
use crate::files::{Asked, Unbounded};
use crate::host::{DriverHost, Stop, TaskHost};
use crate::image::Image;
use crate::limits::{Charge, Limiter};
use crate::linker::{self, CALL_BYTES, MAX_HANDLES, Role, State};
use crate::log::LogSink;
use crate::memory;
use crate::ranges::{self, Ranges};
use crate::wasi::{self, Capabilities};
use crate::written::Watch;

/// Native stack that a guest may use. Threads that run guests need more than this.
const MAX_WASM_STACK: usize = 1 << 20;
/// An instance that has grown by more than this is not kept: giving its memory back as a whole is simpler than finding out
/// what of it the next task may have.
const MAX_KEPT_GROWTH: u64 = 4 << 20;

/// Where a guest that is to stop does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interrupt {
    /// At its next call of the host: its code looks at nothing else.
    #[default]
    Calls,
    /// Anywhere, once [`Job::interrupt`] says so: its code looks at a counter in each loop and function.
    Epoch,
}

/// Compiles and links jobs. One for a process.
pub struct Sandbox {
    engine: Engine,
    interrupt: Interrupt,
    linker: Linker<State>,
    ranges: Ranges,
    cache: Option<CodeCache>,
    sampler: Sampler,
}

/// Why a job can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Component(#[from] ComponentError),
    #[error("setting up the sandbox: {0}")]
    Engine(String),
}

fn config(ranges: &Ranges, interrupt: Interrupt) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .wasm_simd(true)
        .wasm_bulk_memory(true)
        .wasm_reference_types(true)
        .wasm_multi_value(true)
        .wasm_tail_call(true)
        // Off: what no job needs (and what could make a job's answer depend on the machine).
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .wasm_threads(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_relaxed_simd(false)
        .concurrency_support(false)
        // Memories are ours, so that an image can be laid over them; the engine's own copy-on-write goes with its own memories.
        .memory_init_cow(false)
        .with_host_memory(Arc::new(ranges.clone()))
        .epoch_interruption(interrupt == Interrupt::Epoch)
        .max_wasm_stack(MAX_WASM_STACK);
    config
}

impl Sandbox {
    /// An engine with everything that jobs may import. Without a cache, every start compiles.
    pub fn new(cache: Option<CodeCache>, interrupt: Interrupt) -> Result<Self, LoadError> {
        let broken = |e: wasmtime::Error| LoadError::Engine(format!("{e:#}"));
        let ranges = Ranges::default();
        let engine = Engine::new(&config(&ranges, interrupt)).map_err(broken)?;
        let mut linker = Linker::new(&engine);
        linker::link(&mut linker).map_err(broken)?;
        Ok(Self { engine, interrupt, linker, ranges, cache, sampler: Sampler::default() })
    }

    /// Which compiler, settings and processor compiled code must fit.
    pub fn fits(&self) -> String {
        cache::fits(&self.engine)
    }

    /// A component whose code [`CodeCache::hand`] gave, linked: that of the process which started this one.
    pub fn take(&self, hash: ComponentHash, handed: File) -> Result<Job, LoadError> {
        let failed = |why| LoadError::Engine(format!("the job's compiled code: {why}"));
        self.take_code(hash, &cache::read_handed(handed).map_err(failed)?)
    }

    /// A component whose code [`CodeCache::find`] gave, or a process that this one started to compile it, linked.
    pub fn take_code(&self, hash: ComponentHash, code: &[u8]) -> Result<Job, LoadError> {
        let unfit = || LoadError::Engine("the job's compiled code isn't for this program".into());
        let compiled = self.deserialize(code).ok_or_else(unfit)?;
        Ok(self.link(hash, &compiled)?)
    }

    fn cached(&self, hash: ComponentHash) -> Option<Component> {
        let code = self.cache.as_ref()?.load(hash, &self.engine)?;
        self.deserialize(&code)
    }

    /// Compiles a component for [`CodeCache::store_made`].
    pub fn make(&self, hash: ComponentHash, bytes: &[u8]) -> Result<Vec<u8>, LoadError> {
        let code = self.compile(hash, bytes)?.serialize();
        let code = code.map_err(|e| LoadError::Engine(format!("{e:#}")))?;
        Ok([cache::fits(&self.engine).as_bytes(), &code].concat())
    }

    /// Compiles a component, or finds it compiled, and links it. `hash` names it: that of the file it came from.
    /// `component` is asked for its bytes only if it must be compiled.
    pub fn load<E: From<LoadError>>(
        &self,
        hash: ComponentHash,
        component: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Job, E> {
        let compiled = match self.cached(hash) {
            Some(compiled) => compiled,
            None => self.compile(hash, &component()?).map_err(|e| E::from(e.into()))?,
        };
        Ok(self.link(hash, &compiled).map_err(LoadError::from)?)
    }

    #[allow(unsafe_code)]
    fn deserialize(&self, code: &[u8]) -> Option<Component> {
        // SAFETY: the cache gives only what a process of this user stored there: its MAC was verified over all of `code`, with
        // a key that nobody else can read; by this process, or by the one that started it and handed it over (`take`), which runs the same
        // program and is believed as that is; or it comes from a process of this program that this one started (`take_code`). What made it may
        // have been broken by the component that it compiled: it can have made only what runs as that component, behind the same walls.
        // `deserialize` itself checks the engine's version and settings.
        unsafe { Component::deserialize(&self.engine, code) }.ok()
    }

    fn compile(&self, hash: ComponentHash, bytes: &[u8]) -> Result<Component, ComponentError> {
        match component::kind(bytes)? {
            FileKind::Component => {}
            FileKind::CoreModule => return Err(ComponentError::CoreModule),
        }
        let invalid = |e: wasmtime::Error| ComponentError::Invalid(format!("{e:#}"));
        let compiled = Component::from_binary(&self.engine, bytes).map_err(invalid)?;
        // Only a component that can run is worth keeping.
        self.link(hash, &compiled)?;
        if let Some(cache) = &self.cache {
            cache.store(hash, &self.engine, &compiled.serialize().map_err(invalid)?);
        }
        Ok(compiled)
    }

    fn link(&self, hash: ComponentHash, compiled: &Component) -> Result<Job, ComponentError> {
        let exports = component::exports(&self.engine, compiled)?;
        let unknown = component::unknown_imports(&self.engine, compiled, linker::offers);
        if !unknown.is_empty() {
            return Err(ComponentError::UnknownImports(unknown));
        }
        let mismatch = |e: wasmtime::Error| ComponentError::Mismatch(format!("{e:#}"));
        let pre = self.linker.instantiate_pre(compiled).map_err(mismatch)?;
        let (engine, ranges, sampler) =
            (self.engine.clone(), self.ranges.clone(), self.sampler.clone());
        Ok(Job { hash, engine, interrupt: self.interrupt, pre, exports, ranges, sampler })
    }
}

/// A component that is ready to be instantiated. Clones are cheap.
#[derive(Clone)]
pub struct Job {
    hash: ComponentHash,
    engine: Engine,
    interrupt: Interrupt,
    pre: InstancePre<State>,
    exports: Exports,
    ranges: Ranges,
    sampler: Sampler,
}

/// How a driver ended that ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
    /// `main` returned.
    Ok,
    /// `main` returned an error, with this text.
    Failed(String),
    /// `main` called `exit`.
    Exit(i32),
}

impl Job {
    /// Has all guests look whether they are to stop, wherever they are; if they were compiled for it.
    pub fn interrupt(&self) {
        if self.interrupt == Interrupt::Epoch {
            self.engine.increment_epoch();
        }
    }

    /// The job's name everywhere.
    pub fn hash(&self) -> ComponentHash {
        self.hash
    }

    fn store(
        &self,
        charge: &Charge,
        pool: &MemoryPool,
        capabilities: &Capabilities,
        log: &Arc<dyn LogSink>,
        role: Role,
        image: Option<Image>,
    ) -> Store<State> {
        let wasi = wasi::context(capabilities, log);
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        let state = State {
            wasi,
            network: capabilities.net.clone(),
            log: log.clone(),
            table,
            limiter: Limiter::new(charge.clone()),
            ranges: self.ranges.clone(),
            component: self.hash,
            role,
            writes: Asked::default(),
            announced: None,
            before: None,
            image,
            memory: None,
            laid: None,
            dirtied: None,
            sampler: self.sampler.clone(),
            pool: pool.clone(),
            told_layout: false,
            handles: 0,
        };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(CALL_BYTES);
        if self.interrupt == Interrupt::Epoch {
            store.set_epoch_deadline(1);
            store.epoch_deadline_callback(|cx| match cx.data().role.is_cancelled() {
                true => Err(Stop::Cancelled.into()),
                // Somebody else's.
                false => Ok(UpdateDeadline::Continue(1)),
            });
        }
        store
    }

    /// Runs the driver to its end, on this thread, within `pool`.
    pub fn drive(
        &self,
        host: Box<dyn DriverHost>,
        pool: &MemoryPool,
        capabilities: &Capabilities,
        log: &Arc<dyn LogSink>,
    ) -> Result<Finished, GuestFailure> {
        let charge = Charge::new(pool);
        let mut store = self.store(&charge, pool, capabilities, log, Role::Driver(host), None);
        store.data().writes.set(Some(Arc::new(Unbounded)));
        let ended = (|| {
            let instance = self.pre.instantiate(&mut store)?;
            let drive = instance
                .get_typed_func::<(), (Result<(), String>,)>(&mut store, self.exports.drive)?;
            drive.call(&mut store, ())
        })();
        match ended {
            Ok((Ok(()),)) => Ok(Finished::Ok),
            Ok((Err(text),)) => Ok(Finished::Failed(failure::said(text))),
            Err(error) => match GuestFailure::of(&error) {
                GuestFailure { kind: FailureKind::Exit(code), .. } => Ok(Finished::Exit(code)),
                mut failure => {
                    failure.message = failure.message.replace(TASK_HINT, "raise --driver-memory");
                    Err(failure)
                }
            },
        }
    }

    /// An instance for tasks that start from `image`, charged to `pool`. `cancelled` says whether what runs as it is made is to stop.
    pub fn task_instance(
        &self,
        image: Option<Image>,
        pool: &MemoryPool,
        capabilities: &Capabilities,
        log: &Arc<dyn LogSink>,
        cancelled: impl Fn() -> bool + Send + 'static,
    ) -> Result<TaskInstance, GuestFailure> {
        let charge = Charge::new(pool);
        let starting = Role::Starting(Box::new(cancelled));
        let mut store = self.store(&charge, pool, capabilities, log, starting, image);
        let run = (|| {
            // What was said before this store counted epochs is past.
            if store.data().role.is_cancelled() {
                return Err(Stop::Cancelled.into());
            }
            let (instance, made) = ranges::made_by(|| self.pre.instantiate(&mut store));
            let instance = instance?;
            store.data_mut().memory = <[usize; 1]>::try_from(made).ok().map(|[only]| only);
            instance.get_typed_func::<(u64,), ()>(&mut store, self.exports.run)
        })();
        let run = run.map_err(|e| GuestFailure::of(&e))?;
        store.data_mut().role = Role::Idle;
        let interrupt = self.interrupt;
        Ok(TaskInstance { store, run, interrupt, watch: Watched::NotYet, _charge: charge })
    }
}

/// An instance that runs tasks of one stage, one after the other.
pub struct TaskInstance {
    // Before the charge: the memories are given back when the store is dropped, and only then credited.
    store: Store<State>,
    run: TypedFunc<(u64,), ()>,
    interrupt: Interrupt,
    watch: Watched,
    _charge: Charge,
}

/// Bytes that an instance is charged for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestMemory {
    /// Memories and tables, with as much of an image as is charged in advance.
    pub own: u64,
    /// Pages of a large image that it changed beyond that, as far as the sampler saw them.
    pub own_pages: u64,
}

/// Whether writes to an instance's image are noted.
enum Watched {
    /// It ran no task before.
    NotYet,
    Yes(Arc<Watch>),
    /// It writes to too many pages, or this system doesn't tell which.
    No,
}

impl TaskInstance {
    /// Runs one task, on this thread, and gives its host back.
    pub fn run(
        &mut self,
        entry: u64,
        host: Box<dyn TaskHost>,
    ) -> (Option<Box<dyn TaskHost>>, Result<(), GuestFailure>) {
        let state = self.store.data_mut();
        state.writes.set(Some(host.writes()));
        state.role = Role::Task(host);
        if let (Some(dirtied), Role::Task(host)) = (&state.dirtied, &state.role) {
            dirtied.begin(host.overdrawn());
        }
        if self.interrupt == Interrupt::Epoch {
            // What was counted for others, or before this task was known here, is past; what it was told since is looked at now.
            self.store.set_epoch_deadline(1);
        }
        let ended = match self.store.data().role.is_cancelled() {
            true => Err(Stop::Cancelled.into()),
            false => self.run.call(&mut self.store, (entry,)),
        };
        let ended = ended.map_err(|e| GuestFailure::of(&e));
        let state = self.store.data_mut();
        state.writes.set(None);
        if let Some(dirtied) = &state.dirtied {
            dirtied.end();
        }
        // It may have grown at the image's cost, and kept the memory for itself.
        let ended = match ended {
            Ok(()) if state.told_layout && state.laid.is_none() => {
                Err(GuestFailure::of_host("the task asked for its image and never laid it"))
            }
            ended => ended,
        };
        match std::mem::replace(&mut state.role, Role::Idle) {
            Role::Task(host) => (Some(host), ended),
            _ => (None, ended),
        }
    }

    /// What it holds, since it was made: after a task and before its reset, what the task had.
    pub fn memory(&self) -> GuestMemory {
        let state = self.store.data();
        let own_pages = state.dirtied.as_ref().map_or(0, |dirtied| dirtied.charged());
        GuestMemory { own: state.limiter.charged(), own_pages }
    }

    /// After a task that succeeded: puts the driver's exact state back, so that the next task of the stage finds what a
    /// new instance would. Says whether the instance can be used again.
    pub fn reset(&mut self) -> bool {
        let state = self.store.data_mut();
        let (Some(image), Some(laid)) = (&state.image, state.laid) else { return false };
        // What it left open would pile up.
        if state.table.iter_mut().count() != state.handles {
            return false;
        }
        let image_end = image.base() + image.length();
        let grown = state.limiter.bytes().saturating_sub(image_end);
        // Another memory would stay as it is.
        if grown > MAX_KEPT_GROWTH || state.memory.is_none() {
            return false;
        }
        let (image, ranges) = (image.clone(), state.ranges.clone());
        let put_back = match self.restore(&image, laid.start()) {
            true => memory::reset_beyond(&ranges, laid, &image).is_ok(),
            false => memory::reset(&ranges, laid, &image).is_ok(),
        };
        if let (true, Some(dirtied)) = (put_back, &self.store.data().dirtied) {
            dirtied.put_back();
        }
        put_back
    }

    /// Puts the image's pages back if it is known which were written. From the second time on, it mostly is.
    fn restore(&mut self, image: &Image, start: usize) -> bool {
        if let Watched::NotYet = self.watch {
            let watch = Watch::new(&mut self.store);
            self.watch = if watch.begin(start, image) { Watched::Yes(watch) } else { Watched::No };
        }
        match &self.watch {
            Watched::Yes(watch) if watch.restore(image) => true,
            _ => {
                self.watch = Watched::No;
                false
            }
        }
    }
}
