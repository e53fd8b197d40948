/**
 * JSON Schema as plain literals whose TypeScript types are inferred from them: one description validates, documents and types.
 * The inference is typebox's and costs nothing when the program runs.
 */

import type { FastifyTypeProvider } from 'fastify'
import type { XStatic } from 'typebox/schema'

type DeepReadonly<T> = T extends readonly (infer Item)[]
  ? readonly DeepReadonly<Item>[]
  : T extends object
    ? // A view's optional property may be undefined; in JSON such a one is not there.
      { readonly [K in keyof T]: DeepReadonly<Exclude<T[K], undefined>> }
    : T

/** The type of the values that a schema describes. */
export type Static<Schema> = DeepReadonly<XStatic<Schema>>

/** What may be sent where a schema has these values: JSON leaves out a property that is undefined. */
type Sendable<T> = T extends readonly (infer Item)[]
  ? readonly Sendable<Item>[]
  : T extends object
    ? { readonly [K in keyof T]: Sendable<T[K]> | (Record<never, never> extends Pick<T, K> ? undefined : never) }
    : T

/** Gives Fastify's handlers their types by `Static`. */
export interface SchemaTypes extends FastifyTypeProvider {
  validator: Static<this['schema']>
  serializer: Sendable<Static<this['schema']>>
}

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false

type ObjectSchema<P, O extends keyof P> = {
  readonly type: 'object'
  readonly additionalProperties: false
  readonly properties: P
  readonly required: Required<P, O>
}

/** The inference takes tuples alone, and their members' types but not their number: one that stands for all will do. */
type Required<P, O extends keyof P> = readonly [Exclude<keyof P & string, O>]

/** An object of exactly these properties, all required but the `optional` ones. */
export function object<const P extends Readonly<Record<string, object>>, const O extends keyof P & string = never>(
  properties: P,
  optional: readonly O[] = [],
): ObjectSchema<P, O> {
  const left: readonly string[] = optional
  const required: unknown = Object.keys(properties).filter((key) => !left.includes(key))
  return { type: 'object', additionalProperties: false, properties, required: required as Required<P, O> }
}

/** Any number of items of one schema. */
export function array<const S extends object>(items: S): { readonly type: 'array'; readonly items: S } {
  return { type: 'array', items }
}

/** What the schema describes, or null. */
export function nullable<const S extends object>(
  schema: S,
): { readonly anyOf: readonly [S, { readonly type: 'null' }] } {
  return { anyOf: [schema, { type: 'null' }] }
}

/** Returns the schema of a service's view; one that describes anything else than `View` does not compile. */
export function viewOf<View>(): <const S extends object>(
  schema: Same<Static<S>, DeepReadonly<View>> extends true ? S : never,
) => S {
  return (schema) => schema
}
