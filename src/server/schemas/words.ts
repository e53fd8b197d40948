/** The values that the schemas of all nouns are made of. */

export const text = { type: 'string' } as const
export const textOrNull = { type: ['string', 'null'] } as const
export const yesOrNo = { type: 'boolean' } as const
/** In a query, where everything is text. */
export const flag = { type: 'string', enum: ['true', 'false'] } as const
export const bytes = { type: 'integer', minimum: 0, description: 'bytes' } as const
export const bytesOrNull = {
  type: ['integer', 'null'],
  minimum: 0,
  description: 'bytes, or null when not known or not limited',
} as const
export const time = { type: 'string', format: 'date-time' } as const
export const timeOrNull = { type: ['string', 'null'], format: 'date-time' } as const
export const textMap = { type: 'object', additionalProperties: { type: 'string' } } as const
export const count = { type: 'integer', minimum: 0 } as const

/** In the body of work that may take long: answer as soon as it is in the journal. */
export const detach = {
  type: 'boolean',
  description: 'answer 202 with the operation once it is in the journal, instead of the result at its end',
} as const
