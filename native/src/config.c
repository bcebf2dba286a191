/* Where a session's settings come from: the environment, checked. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "session.h"
#include "status.h"

/* A number of bytes such as "65536", "64KiB" or "1.5GiB" (units are powers of 1024), as parseSize() of src/core/size.ts
 * reads it; what is larger than any map becomes UINT64_MAX. 0, or -1. */
static int parse_size(const char *text, uint64_t *size) {
  static const struct {
    const char *unit;
    double value;
  } units[] = {{"", 1},          {"b", 1},          {"k", 1 << 10},   {"kib", 1 << 10},
               {"m", 1 << 20},   {"mib", 1 << 20},  {"g", 1 << 30},   {"gib", 1 << 30}};
  /* No sign, exponent or hexadecimal digits, which strtod() would take; its decimal point depends on the locale. */
  text += strspn(text, " \t");
  double number = 0, place = 1;
  const char *at = text;
  for (; *at >= '0' && *at <= '9'; at++)
    number = number * 10 + (*at - '0');
  if (at == text)
    return -1;
  if (*at == '.') {
    const char *fraction = ++at;
    for (; *at >= '0' && *at <= '9'; at++)
      number = number * 10 + (*at - '0'), place *= 10;
    if (at == fraction)
      return -1;
  }
  at += strspn(at, " \t");
  size_t length = strcspn(at, " \t");
  if (at[length + strspn(at + length, " \t")] != 0)
    return -1;
  for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
    if (strlen(units[i].unit) != length || strncasecmp(at, units[i].unit, length) != 0)
      continue;
    double bytes = number / place * units[i].value;
    if (bytes > 9007199254740991.0) {
      *size = UINT64_MAX;
      return 0;
    }
    /* NaN: more digits than a double can count. */
    if (!(bytes >= 0) || bytes != (double)(uint64_t)bytes)
      return -1;
    *size = (uint64_t)bytes;
    return 0;
  }
  return -1;
}

static int parse_number(const char *text, unsigned long max, unsigned long *number) {
  char *end;
  if (text[0] < '0' || text[0] > '9')
    return -1;
  errno = 0;
  *number = strtoul(text, &end, 10);
  return errno == 0 && *end == 0 && *number <= max ? 0 : -1;
}

static const char *variable(const char *name) {
  const char *value = getenv(name);
  return value != NULL && value[0] != 0 ? value : NULL;
}

/* Where nothing names a session and this is a task that Slurm's srun has started, its step is the session. A step on many
 * nodes looks for the daemon where srun was called. src/core/hosts.ts does the same. */
static int slurm_step(dsm_config *config) {
  static char session[DSM_NAME_MAX + 1], daemon[64];
  const char *job = variable("SLURM_JOB_ID"), *step = variable("SLURM_STEP_ID");
  const char *tasks = variable("SLURM_STEP_NUM_TASKS"), *rank = variable("SLURM_PROCID");
  if (job == NULL || step == NULL || tasks == NULL || rank == NULL)
    return DSM_OK;
  unsigned long number;
  if (parse_number(tasks, UINT32_MAX, &number) != 0 || number == 0)
    return dsm_fail(DSM_INVALID, "SLURM_STEP_NUM_TASKS is \"%s\"; set DSM_SESSION and DSM_PROCESSES", tasks);
  config->processes = (uint32_t)number;
  if (parse_number(rank, DSM_PROCESSES_MAX - 1, &number) != 0)
    return dsm_fail(DSM_INVALID, "SLURM_PROCID is \"%s\"; set DSM_SESSION and DSM_RANK", rank);
  config->rank = (int32_t)number;
  /* The same text for all threads, whoever writes it. */
  snprintf(session, sizeof session, "slurm-%s.%s", job, step);
  config->session = session;
  config->node = variable("SLURMD_NODENAME");
  const char *nodes = variable("SLURM_STEP_NUM_NODES"), *home = variable("SLURM_LAUNCH_NODE_IPADDR");
  if (nodes != NULL && home != NULL && parse_number(nodes, UINT32_MAX, &number) == 0 && number > 1) {
    snprintf(daemon, sizeof daemon, strchr(home, ':') != NULL ? "[%s]:4200" : "%s:4200", home);
    config->daemon = daemon;
  }
  return DSM_OK;
}

int dsm_config_init(dsm_config *config) {
  if (config == NULL)
    return dsm_fail(DSM_INVALID, "dsm_config_init: config is NULL");
  memset(config, 0, sizeof *config);
  config->rank = -1;
  config->session = getenv("DSM_SESSION");
  if (variable("DSM_SESSION") == NULL) {
    int status = slurm_step(config);
    if (status != DSM_OK)
      return status;
  }
  if (variable("DSM_NODE") != NULL)
    config->node = variable("DSM_NODE");
  if (variable("DSM_DAEMON") != NULL)
    config->daemon = variable("DSM_DAEMON");
  config->binary = variable("DSM_BIN");
  config->autostart = 1;
  config->direct = 1;
  config->order = variable("DSM_ORDER");
  config->on_loss = variable("DSM_ON_LOSS");

  unsigned long number;
  const char *text;
  if ((text = variable("DSM_PROCESSES")) != NULL) {
    if (parse_number(text, UINT32_MAX, &number) != 0 || number == 0)
      return dsm_fail(DSM_INVALID, "DSM_PROCESSES is \"%s\"; set a number from 1 to %d", text, DSM_PROCESSES_MAX);
    config->processes = (uint32_t)number;
  }
  if ((text = variable("DSM_SIZE")) != NULL) {
    if (parse_size(text, &config->size) != 0 || config->size == 0)
      return dsm_fail(DSM_INVALID, "DSM_SIZE is \"%s\"; set bytes, or a number with KiB, MiB or GiB", text);
    if (config->size == UINT64_MAX)
      return dsm_fail(DSM_INVALID, "DSM_SIZE is \"%s\"; the limit is 4 GiB", text);
  }
  if ((text = variable("DSM_RANK")) != NULL) {
    if (parse_number(text, DSM_PROCESSES_MAX - 1, &number) != 0)
      return dsm_fail(DSM_INVALID, "DSM_RANK is \"%s\"; set a number from 0 to %d", text, DSM_PROCESSES_MAX - 1);
    config->rank = (int32_t)number;
  }
  if ((text = variable("DSM_JOIN_TIMEOUT_MS")) != NULL) {
    if (parse_number(text, INT32_MAX, &number) != 0 || number == 0)
      return dsm_fail(DSM_INVALID, "DSM_JOIN_TIMEOUT_MS is \"%s\"; set milliseconds", text);
    config->join_timeout_ms = (uint32_t)number;
  }
  if ((text = variable("DSM_AUTOSTART")) != NULL) {
    if (parse_number(text, 1, &number) != 0)
      return dsm_fail(DSM_INVALID, "DSM_AUTOSTART is \"%s\"; set 0 or 1", text);
    config->autostart = (int32_t)number;
  }
  if ((text = variable("DSM_ELASTIC")) != NULL) {
    if (parse_number(text, 1, &number) != 0)
      return dsm_fail(DSM_INVALID, "DSM_ELASTIC is \"%s\"; set 0 or 1", text);
    config->elastic = (int32_t)number;
  }
  if ((text = variable("DSM_DIRECT")) != NULL) {
    if (parse_number(text, 1, &number) != 0)
      return dsm_fail(DSM_INVALID, "DSM_DIRECT is \"%s\"; set 0 or 1", text);
    config->direct = (int32_t)number;
  }
  return DSM_OK;
}

/* The code point at `*text`, which then is behind it. -1: that is not UTF-8. */
static int32_t next_code_point(const unsigned char **text) {
  static const int32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  const unsigned char *at = *text;
  int size = at[0] < 0x80 ? 1 : at[0] < 0xc0 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : at[0] < 0xf8 ? 4 : 0;
  if (size == 0)
    return -1;
  int32_t code = size == 1 ? at[0] : at[0] & (0x7f >> size);
  for (int i = 1; i < size; i++) {
    if ((at[i] & 0xc0) != 0x80)
      return -1;
    code = code << 6 | (at[i] & 0x3f);
  }
  if (code < least[size] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
    return -1;
  *text = at + size;
  return code;
}

/* What changes how a terminal shows the text around it. src/core/names.ts has the same list: control characters,
 * separators of lines and paragraphs, marks of the direction of writing. */
static int is_control(int32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x61c || code == 0x200e || code == 0x200f ||
         (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

int session_check_name(const char *what, const char *name) {
  if (name == NULL || name[0] == 0)
    return dsm_fail(DSM_INVALID, "the %s name is empty; give it 1 to %d bytes", what, DSM_NAME_MAX);
  if (strlen(name) > DSM_NAME_MAX)
    return dsm_fail(DSM_INVALID, "the %s name has %zu bytes; the limit is %d", what, strlen(name), DSM_NAME_MAX);
  for (const unsigned char *at = (const unsigned char *)name; *at != 0;) {
    int32_t code = next_code_point(&at);
    if (code == '/')
      return dsm_fail(DSM_INVALID, "the %s name has a slash; leave it out", what);
    /* The replacement character stands where another program found what is not UTF-8. */
    if (code < 0 || code == 0xfffd)
      return dsm_fail(DSM_INVALID, "the %s name is not valid UTF-8", what);
    if (is_control(code))
      return dsm_fail(DSM_INVALID, "the %s name has a control character (U+%04X); leave it out", what, (unsigned)code);
  }
  if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
    return dsm_fail(DSM_INVALID, "the %s name is \"%s\"; choose another", what, name);
  return DSM_OK;
}
