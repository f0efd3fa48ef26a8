// What the helpers of the openai package make of zod's schemas, and what its strict mode makes of plain ones.
import { zodResponseFormat, zodTextFormat } from 'openai/helpers/zod';
import { toStrictJsonSchema } from 'openai/lib/transform';
import * as z from 'zod';

const Node = z.object({ label: z.string(), get children() { return z.array(Node); } });
const chat = (schema) => zodResponseFormat(schema, 'answer').json_schema.schema;
const responses = (schema) => zodTextFormat(schema, 'answer').schema;

export default [
  { name: 'chat: an event', schema: chat(z.object({ name: z.string(), date: z.string(), participants: z.array(z.string()) })),
    good: [{ name: 'a', date: 'b', participants: ['c'] }], bad: [{ name: 'a', date: 'b' }, { name: 'a', date: 'b', participants: [], x: 1 }] },
  { name: 'chat: nullable for optional', schema: chat(z.object({ route: z.string().nullable(), urgency: z.number().min(0).max(1), kind: z.enum(['a', 'b']).nullable() })),
    good: [{ route: null, urgency: 0.5, kind: null }], bad: [{ urgency: 0.5, kind: 'a' }, { route: null, urgency: 2, kind: 'a' }, { route: null, urgency: 1, kind: 'c' }] },
  { name: 'chat: recursive', schema: chat(Node),
    good: [{ label: 'a', children: [{ label: 'b', children: [] }] }], bad: [{ label: 'a', children: [{ label: 1, children: [] }] }] },
  { name: 'responses: forms', schema: responses(z.object({ item: z.discriminatedUnion('type', [z.object({ type: z.literal('user'), age: z.number() }), z.object({ type: z.literal('address'), street: z.string() })]) })),
    good: [{ item: { type: 'user', age: 3 } }], bad: [{ item: { type: 'user', street: 's' } }] },
  { name: 'strict: $defs and anyOf with null', schema: toStrictJsonSchema({ type: 'object', properties: { head: { $ref: '#/$defs/node' } }, required: ['head'],
      $defs: { node: { type: 'object', properties: { value: { type: 'number' }, next: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] } }, required: ['value', 'next'] } } }),
    good: [{ head: { value: 1, next: null } }], bad: [{ head: { value: 1 } }, { head: { value: 1, next: { value: 'x', next: null } } }] },
];
