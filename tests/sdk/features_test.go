package sdk_test

import "slices"

// feature is a scenario, which every application runs but those of the SDKs that lack what it needs.
type feature struct {
	scenario string
	lacking  []string
}

var features = []feature{
	{"sequence_of_activities", nil},
	{"payload_types", nil},
	{"fan_out_of_1000", nil},
	{"first_of_two", nil},
	{"sub_orchestrations", nil},
	{"retries", nil},
	{"retry_of_sub_orchestration", nil},
	{"failures", nil},
	{"timers", nil},
	{"continue_as_new", nil},
	{"continue_as_new_with_events", nil},
	{"custom_status", nil},
	{"replay_safe_uuids", nil},
	{"event_after_the_wait", nil},
	{"event_before_the_wait", nil},
	{"many_events_in_order", nil},
	{"event_against_a_timer", nil},
	{"event_between_orchestrations", nil},
	{"event_to_the_unknown_and_to_the_done", nil},
	{"terminate", nil},
	{"terminate_recursively", nil},
	{"suspend_and_resume", nil},
	{"terminate_while_suspended", nil},
	{"waits", nil},
	{"query", nil},
	{"purge", nil},
	{"purge_by_filter", nil},
	{"rewind", nil},
	{"rewind_of_a_tree", nil},
	{"restart", nil},
	{"history_of_an_instance", []string{"java"}},
	{"scheduled_start", nil},
	{"reuse_of_an_id", nil},
	{"bad_input", nil},
	{"entity_signals", []string{"java"}},
	{"entity_calls", []string{"java"}},
	{"entity_failures", []string{"java"}},
	{"entity_actions", []string{"java"}},
	{"entity_scheduled_signals", []string{"java"}},
	{"entity_query_and_cleaning", []string{"java"}},
	{"entity_locks", []string{"java"}},
	{"entity_lock_of_the_terminated", []string{"java"}},
	{"large_payloads", nil},
	{"history_beyond_a_message", nil},
	{"worker_that_accepts_more", []string{"javascript"}},
	{"scheduled_tasks", []string{"java", "javascript"}},
	{"versions", []string{"java"}},
	{"version_matching", []string{"java"}},
	{"version_rejected_by_one_worker", []string{"java"}},
	{"work_item_filters", []string{"java"}},
	{"filter_by_version", []string{"java"}},
	{"worker_that_comes_late", nil},
	{"payload_store", []string{"java", "javascript"}},
	{"tls_and_token", nil},
	{"worker_killed_in_an_activity", nil},
	{"server_killed_in_a_run", nil},
	{"task_hub", []string{"javascript", "python"}},
}

// scenariosOf lists the scenarios that the application of an SDK must run.
func scenariosOf(sdk string) []string {
	var names []string
	for _, f := range features {
		if !slices.Contains(f.lacking, sdk) {
			names = append(names, f.scenario)
		}
	}
	return names
}
