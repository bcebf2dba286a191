/**
 * SessionSettings: what is the same for all processes of a session. The table of core/base/settings.ts says which
 * settings these are, and by which fields requests to the daemon carry them.
 */
import * as v from "valibot";
import { checkSetting, SETTINGS, type Setting, type SettingName, type SettingValue } from "../base/settings.ts";
import { pageRound } from "../base/size.ts";
import { flag, numberBy, textBy } from "./schema.ts";

/** Settings that requests to the daemon carry. */
type RequestSetting = {
  [Name in SettingName]: (typeof SETTINGS)[Name] extends { json: string } ? Name : never;
}[SettingName];
type FieldOf<Name extends RequestSetting> = (typeof SETTINGS)[Name]["json"];
/** The name of a session is part of its path or request, not of its settings. */
export type SessionSetting = Exclude<RequestSetting, "session">;

export type SessionSettings = { [Name in SessionSetting as FieldOf<Name>]: SettingValue<Name> };

/** Settings that a request asks for: left out, 0, "" and false ask for nothing. */
export type WishedSettings = { [Field in keyof SessionSettings]?: SessionSettings[Field] | "" | undefined };

type Schema<Name extends RequestSetting> = v.GenericSchema<SettingValue<Name>>;

/** Schema of the field that carries a setting. */
export function settingField<Name extends RequestSetting>(name: Name): Schema<Name> {
  const { kind }: Setting = SETTINGS[name];
  const fault = (value: string | number): string | null => checkSetting(name, value, name);
  const schema = kind === "flag" ? flag : kind === "whole" || kind === "size" ? numberBy(fault) : textBy(fault);
  return schema as v.GenericSchema<unknown> as Schema<Name>;
}

const NAMES = (Object.keys(SETTINGS) as SettingName[]).filter(
  (name): name is SessionSetting => (SETTINGS[name] as Setting).json !== undefined && name !== "session",
);

/** A pair for each setting: its name in the table, and its field. */
export const SESSION_SETTINGS = NAMES.map((name) => [name, SETTINGS[name].json] as const);

function entries<Made>(make: (name: SessionSetting) => Made): Record<string, Made> {
  return Object.fromEntries(SESSION_SETTINGS.map(([name, field]) => [field, make(name)]));
}

/** Entries of a message that carries all settings. */
export const settingEntries = entries(settingField) as { [Name in SessionSetting as FieldOf<Name>]: Schema<Name> };

/** Entries of a message that may leave out each of them. */
export const wishedEntries = entries((name) => v.exactOptional(settingField(name) as Schema<SessionSetting>)) as {
  [Name in SessionSetting as FieldOf<Name>]: v.ExactOptionalSchema<Schema<Name>, undefined>;
};

/** The settings alone of an object that has other fields, too. */
export function settingsOf(has: SessionSettings): SessionSettings {
  return Object.fromEntries(SESSION_SETTINGS.map(([, field]) => [field, has[field]])) as SessionSettings;
}

/** What a request asks for, alone. */
export function wishesOf(wished: WishedSettings): Partial<SessionSettings> {
  const asked = SESSION_SETTINGS.map(([, field]) => [field, wished[field]] as const).filter(([, value]) => value);
  return Object.fromEntries(asked) as Partial<SessionSettings>;
}

/** The settings of a new session: as asked for, else the defaults. Null: one without a default is not asked for. */
export function settingsOfNew(wished: WishedSettings): SessionSettings | null {
  const chosen = SESSION_SETTINGS.map(([name, field]) => [
    field,
    wished[field] || (SETTINGS[name] as Setting).fallback,
  ]);
  if (chosen.some(([, value]) => value === undefined)) return null;
  const settings = Object.fromEntries(chosen) as SessionSettings;
  return { ...settings, size: pageRound(settings.size) };
}

/** How what is asked for differs from the session, in words; null: it does not. */
export function describeMismatch(
  has: Partial<SessionSettings> & { name: string },
  wished: WishedSettings,
): string | null {
  for (const [name, field] of SESSION_SETTINGS) {
    const value = wished[field];
    const { differs }: Setting = SETTINGS[name];
    if (value && value !== has[field]) return `session "${has.name}" ${differs?.(has[field], value)}`;
  }
  return null;
}
