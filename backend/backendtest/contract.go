package backendtest

func contract() []Test {
	return []Test{
		{"HubIsCreatedOpenedAndDeleted", hubLifecycle},
		{"HubIsNotInitialized", hubNotInitialized},
		{"HubStopsTwice", hubStopsTwice},
		{"HubKeepsEverything", hubKeepsEverything},

		{"StartIsStored", startIsStored},
		{"StartOfATakenID", startOfATakenID},
		{"StartThatIsRefused", startThatIsRefused},
		{"StartAtATime", startAtATime},
		{"EventsKeepTheirOrder", eventsKeepTheirOrder},
		{"EventsForNobody", eventsForNobody},
		{"EventsThatAreRefused", eventsThatAreRefused},
		{"MetadataOfEachEnd", metadataOfEachEnd},

		{"TurnHoldsItsInstance", turnHoldsItsInstance},
		{"TurnIsStoredWhole", turnIsStoredWhole},
		{"TurnIsAbandoned", turnIsAbandoned},
		{"TurnLockIsLost", turnLockIsLost},
		{"TurnContinuesAsNew", turnContinuesAsNew},
		{"TurnSuspends", turnSuspends},
		{"TurnSendsEvents", turnSendsEvents},
		{"TurnStartsChildren", turnStartsChildren},
		{"TimersFireInTime", timersFireInTime},
		{"TimersSurvive", timersSurvive},
		{"TimersOfLittleMemory", timersOfLittleMemory},

		{"ActivityRunsOnce", activityRunsOnce},
		{"ActivitiesStartInOrder", activitiesStartInOrder},
		{"ActivityIsAbandoned", activityIsAbandoned},
		{"ActivityResultThatIsRefused", activityResultThatIsRefused},
		{"ActivityOfAnEndedInstance", activityOfAnEndedInstance},
		{"ActivityOfAnOldGeneration", activityOfAnOldGeneration},
		{"ActivitiesSurvive", activitiesSurvive},
		{"ActivityLocksAreLost", activityLocksAreLost},

		{"PurgeDeletesWhatIsOver", purgeDeletesWhatIsOver},

		{"AwaiterWaitsForWork", awaiterWaitsForWork},
		{"AwaiterWaitsForInstances", awaiterWaitsForInstances},
		{"SelectorPicksByName", selectorPicksByName},
		{"ReplacerFollowsThePolicy", replacerFollowsThePolicy},
		{"ReplacerEndsTheOldOne", replacerEndsTheOldOne},
		{"FreshStart", freshStart},
		{"QueryFilters", queryFilters},
		{"QueryPages", queryPages},
		{"FinishedAreListed", finishedAreListed},
		{"HistoryIsRead", historyIsRead},
		{"ManagerPurgesTrees", managerPurgesTrees},
		{"ManagerTerminates", managerTerminates},
		{"ManagerRewinds", managerRewinds},

		{"ManyWorkersShareTheWork", manyWorkersShareTheWork},
		{"RandomCallsBesideTheModel", randomCallsBesideTheModel},

		{"FaultsOfEachCommit", faultsOfEachCommit},
		{"FaultsKeepTimers", faultsKeepTimers},
		{"FaultsThatFence", faultsThatFence},
		{"FaultsUnderLoad", faultsUnderLoad},
		{"FaultOfAFullDisk", faultOfAFullDisk},
	}
}
