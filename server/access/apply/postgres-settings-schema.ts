/** What a PostgreSQL backend's document says of the settings that its sessions may change (threats P11). */
import type { MessageInitShape } from '@bufbuild/protobuf';
import * as v from 'valibot';
import type { PostgresBackendSchema } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import {
  CEILING_UNITS,
  isAllowableSetting,
  type SettingUnit,
  settingAmount,
} from '../../../runtime/postgres-settings.ts';
import { keysBy } from './document-fields.ts';
import { named } from './postgres-names.ts';

const MOST_SETTINGS = 100;
/** As the server's own for settings of each unit: 2^31 - 1. */
const HIGHEST = 2_147_483_647;
const EXAMPLES: Readonly<Record<SettingUnit, string>> = {
  ms: 'a time such as 30s',
  kB: 'an amount of memory such as 64MB',
  count: 'a number',
};
const PINNED =
  /^(client_encoding|standard_conforming_strings|backslash_quote|role|session_authorization)$/;

function allowedProblem(name: string): string | undefined {
  if (PINNED.test(name)) return 'a setting that is not pinned: what sessions may do rests on it';
  return isAllowableSetting(name)
    ? undefined
    : 'a custom setting as `prefix.name`, or a built-in one that guards nothing, in lower case';
}

function ceilingProblem(name: string): string | undefined {
  return CEILING_UNITS.has(name) ? undefined : `one of ${[...CEILING_UNITS.keys()].join(', ')}`;
}

const ceilings = v.pipe(
  v.unknown(),
  keysBy(ceilingProblem),
  v.record(v.string(), v.union([v.string(), v.number()], 'an amount')),
  v.rawTransform(({ dataset, addIssue, NEVER }) => {
    const amounts: [string, bigint][] = [];
    let isWrong = false;
    for (const [key, value] of Object.entries(dataset.value)) {
      const unit = CEILING_UNITS.get(key) ?? 'count';
      const amount = settingAmount(unit, String(value));
      const input = dataset.value;
      if (amount === undefined || amount > HIGHEST) {
        isWrong = true;
        addIssue({
          message: EXAMPLES[unit],
          path: [{ type: 'object', origin: 'value', input, key, value }],
        });
      } else {
        amounts.push([key, BigInt(Math.floor(amount))]);
      }
    }
    // Sorted, so that another order of the same lines is no change.
    return isWrong
      ? NEVER
      : Object.fromEntries(amounts.sort(([one], [other]) => (one < other ? -1 : 1)));
  }),
);

export const postgresSettingsFields = {
  settings_allowed: v.optional(
    v.pipe(
      v.array(named(allowedProblem)),
      v.maxLength(MOST_SETTINGS, `at most ${MOST_SETTINGS} settings`),
      v.check((names) => new Set(names).size === names.length, 'each setting once'),
    ),
    [],
  ),
  setting_ceilings: v.optional(ceilings, {}),
};

const settingsSchema = v.strictObject(postgresSettingsFields);

/** The fields of the backend's message. */
export function postgresSettings({
  settings_allowed: allowed,
  setting_ceilings: settingCeilings,
}: v.InferOutput<typeof settingsSchema>): Pick<
  MessageInitShape<typeof PostgresBackendSchema>,
  'settingsAllowed' | 'settingCeilings'
> {
  return { settingsAllowed: [...allowed].sort(), settingCeilings };
}
