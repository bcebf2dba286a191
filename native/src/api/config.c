/* Settings of a session: reads them from the environment and the caller, and checks them. */
#define _GNU_SOURCE
#include "api/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "session/names.h"
#include "base/settings.h"
#include "base/size.h"
#include "base/status.h"
#include "link/arbiter_link.h"

/* Parses a number of bytes such as "65536", "64KiB" or "1.5GiB" (units are powers of 1024), like parseSize() of
 * src/core/base/size.ts. A number larger than any map becomes UINT64_MAX. Returns 0, or -1. */
static int parse_size(const char *text, uint64_t *size) {
  static const struct {
    const char *unit;
    double value;
  } units[] = {{"", 1},        {"b", 1},         {"k", 1 << 10}, {"kib", 1 << 10},
               {"m", 1 << 20}, {"mib", 1 << 20}, {"g", 1 << 30}, {"gib", 1 << 30}};
  /* Reject signs, exponents and hexadecimal digits, which strtod() accepts; its decimal point depends on the locale. */
  text += strspn(text, " \t");
  double number = 0, place = 1;
  const char *at = text;
  for (; *at >= '0' && *at <= '9'; at++) number = number * 10 + (*at - '0');
  if (at == text) return -1;
  if (*at == '.') {
    const char *fraction = ++at;
    for (; *at >= '0' && *at <= '9'; at++) number = number * 10 + (*at - '0'), place *= 10;
    if (at == fraction) return -1;
  }
  at += strspn(at, " \t");
  size_t length = strcspn(at, " \t");
  if (at[length + strspn(at + length, " \t")] != 0) return -1;
  for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
    if (strlen(units[i].unit) != length || strncasecmp(at, units[i].unit, length) != 0) continue;
    double bytes = number / place * units[i].value;
    if (bytes > 9007199254740991.0) {
      *size = UINT64_MAX;
      return 0;
    }
    /* NaN: more digits than a double can count. */
    if (!(bytes >= 0) || bytes != (double)(uint64_t)bytes) return -1;
    *size = (uint64_t)bytes;
    return 0;
  }
  return -1;
}

static int parse_number(const char *text, unsigned long max, unsigned long *number) {
  char *end;
  if (text[0] < '0' || text[0] > '9') return -1;
  errno = 0;
  *number = strtoul(text, &end, 10);
  return errno == 0 && *end == 0 && *number <= max ? 0 : -1;
}

static const char *variable(const char *name) {
  const char *value = getenv(name);
  return value != NULL && value[0] != 0 ? value : NULL;
}

/* Uses the Slurm step as the session if no variable names one and srun has started this task. A step on many nodes uses
 * the daemon of the host where srun was called. src/core/launch/hosts.ts does the same. */
static int slurm_step(dsm_config *config) {
  static char session[DSM_NAME_MAX + 1], daemon[64];
  const char *job = variable("SLURM_JOB_ID"), *step = variable("SLURM_STEP_ID");
  const char *tasks = variable("SLURM_STEP_NUM_TASKS"), *rank = variable("SLURM_PROCID");
  if (job == NULL || step == NULL || tasks == NULL || rank == NULL) return DSM_OK;
  unsigned long number;
  if (parse_number(tasks, UINT32_MAX, &number) != 0 || number == 0)
    return dsm_fail(DSM_INVALID, "SLURM_STEP_NUM_TASKS is \"%s\"; set DSM_SESSION and DSM_PROCESSES", tasks);
  config->processes = (uint32_t)number;
  if (parse_number(rank, DSM_PROCESSES_MAX - 1, &number) != 0)
    return dsm_fail(DSM_INVALID, "SLURM_PROCID is \"%s\"; set DSM_SESSION and DSM_RANK", rank);
  config->rank = (int32_t)number;
  /* Static and unlocked: every thread writes the same text. */
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
  if (config == NULL) return dsm_fail(DSM_INVALID, "dsm_config_init: config is NULL");
  memset(config, 0, sizeof *config);
  config->rank = -1;
  config->session = getenv(SETTING_SESSION);
  if (variable(SETTING_SESSION) == NULL) {
    int status = slurm_step(config);
    if (status != DSM_OK) return status;
  }
  if (variable(SETTING_NODE) != NULL) config->node = variable(SETTING_NODE);
  if (variable(SETTING_DAEMON) != NULL) config->daemon = variable(SETTING_DAEMON);
  config->binary = variable(SETTING_BIN);
  config->autostart = SETTING_AUTOSTART_DEFAULT;
  config->direct = SETTING_DIRECT_DEFAULT;
  config->order = variable(SETTING_ORDER);
  config->on_loss = variable(SETTING_ON_LOSS);

  unsigned long number;
  const char *text;
  if ((text = variable(SETTING_PROCESSES)) != NULL) {
    if (parse_number(text, UINT32_MAX, &number) != 0 || number == 0)
      return dsm_fail(DSM_INVALID, "DSM_PROCESSES is \"%s\"; set a number from 1 to %d", text, DSM_PROCESSES_MAX);
    config->processes = (uint32_t)number;
  }
  if ((text = variable(SETTING_SIZE)) != NULL) {
    if (parse_size(text, &config->size) != 0 || config->size == 0)
      return dsm_fail(DSM_INVALID, "DSM_SIZE is \"%s\"; set bytes, or a number with KiB, MiB or GiB", text);
    if (config->size == UINT64_MAX) return dsm_fail(DSM_INVALID, "DSM_SIZE is \"%s\"; the limit is 4 GiB", text);
  }
  if ((text = variable(SETTING_RANK)) != NULL) {
    if (parse_number(text, SETTING_RANK_MOST, &number) != 0)
      return dsm_fail(DSM_INVALID, "DSM_RANK is \"%s\"; set a number from 0 to %u", text, SETTING_RANK_MOST);
    config->rank = (int32_t)number;
  }
  if ((text = variable(SETTING_JOIN_TIMEOUT_MS)) != NULL) {
    if (parse_number(text, SETTING_JOIN_TIMEOUT_MS_MOST, &number) != 0 || number < SETTING_JOIN_TIMEOUT_MS_LEAST)
      return dsm_fail(DSM_INVALID, "DSM_JOIN_TIMEOUT_MS is \"%s\"; set milliseconds", text);
    config->join_timeout_ms = (uint32_t)number;
  }
  if ((text = variable(SETTING_AUTOSTART)) != NULL) {
    if (parse_number(text, 1, &number) != 0) return dsm_fail(DSM_INVALID, "DSM_AUTOSTART is \"%s\"; set 0 or 1", text);
    config->autostart = (int32_t)number;
  }
  if ((text = variable(SETTING_ELASTIC)) != NULL) {
    if (parse_number(text, 1, &number) != 0) return dsm_fail(DSM_INVALID, "DSM_ELASTIC is \"%s\"; set 0 or 1", text);
    config->elastic = (int32_t)number;
  }
  if ((text = variable(SETTING_BURST)) != NULL && parse_number(text, 1, &number) != 0)
    return dsm_fail(DSM_INVALID, "DSM_BURST is \"%s\"; set 0 or 1", text);
  if ((text = variable(SETTING_DIRECT)) != NULL) {
    if (parse_number(text, 1, &number) != 0) return dsm_fail(DSM_INVALID, "DSM_DIRECT is \"%s\"; set 0 or 1", text);
    config->direct = (int32_t)number;
  }
  return DSM_OK;
}

int config_complete(dsm_config *config, char node[DSM_NAME_MAX + 1]) {
  if (config->session == NULL)
    return dsm_fail(DSM_INVALID, "no session named; start the program with dsm run, or set DSM_SESSION");
  int status = name_check("session", config->session);
  if (status != DSM_OK) return status;
  if (config->node == NULL) {
    if (gethostname(node, DSM_NAME_MAX + 1) != 0 || memchr(node, 0, DSM_NAME_MAX + 1) == NULL || node[0] == 0)
      return dsm_fail(DSM_SYSTEM, "this host has no usable name; set DSM_NODE");
    config->node = node;
  }
  status = name_check("node", config->node);
  if (status != DSM_OK) return status;
  if (config->daemon == NULL) config->daemon = SETTING_DAEMON_DEFAULT;
  const char *colon = strrchr(config->daemon, ':');
  char *end = NULL;
  long port = colon == NULL || colon == config->daemon ? 0 : strtol(colon + 1, &end, 10);
  if (port < 1 || port > 65535 || *end != 0 || strlen(config->daemon) > 280)
    return dsm_fail(DSM_INVALID, "the daemon's address is \"%.100s\"; write host:port", config->daemon);
  if (config->processes > DSM_PROCESSES_MAX)
    return dsm_fail(DSM_INVALID, "processes is %u; the limit is %d", config->processes, DSM_PROCESSES_MAX);
  char size[SIZE_TEXT_BYTES];
  if (config->size > DSM_SIZE_MAX)
    return dsm_fail(DSM_INVALID, "size %s is beyond the limit of 4 GiB", size_text(config->size, size));
  config->size = (config->size + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
  if (config->rank < -1 || config->rank >= DSM_PROCESSES_MAX)
    return dsm_fail(DSM_INVALID, "rank is %d; use 0 to processes - 1, or -1 for any", config->rank);
  if (order_number(config->order) < 0)
    return dsm_fail(DSM_INVALID, "there is no order \"%.40s\"; choose sequential, release or pipelined", config->order);
  if (on_loss_number(config->on_loss) < 0)
    return dsm_fail(DSM_INVALID, "\"%.40s\" is no answer to a loss; choose fail or continue", config->on_loss);
  if (config->join_timeout_ms == 0) config->join_timeout_ms = SETTING_JOIN_TIMEOUT_MS_DEFAULT;
  return DSM_OK;
}
