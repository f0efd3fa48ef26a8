// Writes ../generated.json: what zod, openai's helpers and pydantic emit, with the verdicts of ajv. See README.md.
import { writeFileSync } from 'node:fs';
import Ajv from 'ajv';
import Ajv2020 from 'ajv/dist/2020.js';
import Ajv4 from 'ajv-draft-04';
import addFormats from 'ajv-formats';
import openai from './openai.mjs';
import pydantic from './pydantic.mjs';
import zod from './zod.mjs';

const judge = (schema) => {
  const of = /draft-04/.test(schema.$schema) ? Ajv4 : /draft-07/.test(schema.$schema) ? Ajv : Ajv2020;
  const ajv = new of({ strict: false, logger: false });
  addFormats(ajv);
  return ajv.compile(schema);
};

const emitted = Object.entries({ 'zod 4': zod, 'openai': openai, 'pydantic 2': pydantic }).flatMap(([emitter, list]) =>
  list.map(({ name, source, why, schema, fault, good = [], bad = [] }) => {
    if (fault) return { name: `${emitter}: ${name}`, source, schema, fault };
    const validate = judge(schema);
    const values = [...good.map((value) => [value, true]), ...bad.map((value) => [value, false])].map(([value, valid]) => {
      if (validate(value) !== valid) throw new Error(`${emitter}: ${name}: ajv says ${!valid} of ${JSON.stringify(value)}`);
      return { value, valid: validate(value) };
    });
    return { name: `${emitter}: ${name}`, source, why, schema, values };
  }));
writeFileSync(new URL('../generated.json', import.meta.url), '[\n' + emitted.map((one) => JSON.stringify(one)).join(',\n') + '\n]\n');
