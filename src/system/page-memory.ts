/**
 * Memory that begins at a page of the machine: what WebAssembly's memories do, and no other of JavaScript's. Files opened with O_DIRECT take
 * nothing else.
 */

/** What is used of the global `WebAssembly`, which TypeScript knows only as a part of the browser's DOM. */
interface WebAssemblyApi {
  readonly Memory: new (options: { initial: number; maximum: number; shared?: boolean }) => PagedMemory
  readonly Module: new (binary: Uint8Array) => object
  readonly Instance: new (module: object, imports: object) => { readonly exports: Record<string, unknown> }
}

interface PagedMemory {
  readonly buffer: ArrayBuffer | SharedArrayBuffer
}

export const { WebAssembly } = globalThis as unknown as { WebAssembly: WebAssemblyApi }

/** Of the machine's memory, and a multiple of any disk's blocks. */
export const pageLength = 4096
/** What WebAssembly counts its memories in. */
export const wasmPageLength = 65_536

/** So many bytes, zeroed, that threads can share. @param length whole pages of WebAssembly */
export function pageMemory(length: number): SharedArrayBuffer {
  const pages = length / wasmPageLength
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true }).buffer as SharedArrayBuffer
}
